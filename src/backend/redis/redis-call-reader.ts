import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type { CallReader, RawCall } from '../call-streams.js';
import type { RedisConnection } from './redis-connection.js';

/** The one consumer group of every function. */
export const GROUP = 'workers';

type StreamAnswer = [key: string, entries: [id: string, fields: string[] | null][]][] | null;

/** `XREADGROUP` on a connection of its own; see {@link CallReader}. */
export class RedisCallReader implements CallReader {
  private reading = false;
  /** The connection's id, which CLIENT UNBLOCK wants; asked for before anything blocks. */
  private clientId: number | undefined;

  constructor(
    private readonly connection: RedisConnection,
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
    private readonly consumer: string,
  ) {
    connection.onReady(() => {
      this.clientId = undefined;
      return connection.client.client('ID').then(
        (id) => (this.clientId = id),
        () => undefined,
      );
    });
  }

  whenConnected(): Promise<void> {
    return this.connection.whenReady();
  }

  connections(): number {
    return this.connection.connections();
  }

  async read(refs: readonly FunctionRef[], count: number, blockMs: number): Promise<RawCall[]> {
    const streams = refs.map((ref) => this.keys.calls(ref));
    const ids = refs.map(() => '>');
    this.reading = true;
    try {
      const { client } = this.connection;
      const answer =
        blockMs > 0
          ? client.xreadgroup(
              'GROUP',
              GROUP,
              this.consumer,
              'COUNT',
              count,
              'BLOCK',
              blockMs,
              'STREAMS',
              ...streams,
              ...ids,
            )
          : client.xreadgroup(
              'GROUP',
              GROUP,
              this.consumer,
              'COUNT',
              count,
              'STREAMS',
              ...streams,
              ...ids,
            );
      return flatten(refs, streams, await answer);
    } catch (error) {
      throw this.connection.translate('XREADGROUP', error);
    } finally {
      this.reading = false;
    }
  }

  async pending(refs: readonly FunctionRef[]): Promise<RawCall[]> {
    const streams = refs.map((ref) => this.keys.calls(ref));
    const answer = await this.connection.command('XREADGROUP', (client) =>
      client.xreadgroup(
        'GROUP',
        GROUP,
        this.consumer,
        'STREAMS',
        ...streams,
        ...refs.map(() => '0'),
      ),
    );
    return flatten(refs, streams, answer);
  }

  async wake(): Promise<boolean> {
    const id = this.clientId;
    if (!this.reading || id === undefined || !this.connection.isReady()) return false;
    return (
      (await this.commands.command('CLIENT UNBLOCK', (client) => client.client('UNBLOCK', id))) ===
      1
    );
  }

  reset(): void {
    this.connection.reset();
  }

  async close(): Promise<void> {
    const id = this.clientId;
    // The server may not have noticed a broken connection yet, and would go on delivering into it. Once this
    // is acknowledged nothing more reaches this consumer through it.
    if (this.reading && id !== undefined && this.commands.isReady()) {
      await this.commands
        .command('CLIENT KILL', (client) => client.client('KILL', 'ID', id))
        .catch(() => undefined);
    }
    this.connection.close();
  }
}

function flatten(
  refs: readonly FunctionRef[],
  streams: readonly string[],
  answer: StreamAnswer,
): RawCall[] {
  if (answer === null) return [];
  const calls: RawCall[] = [];
  for (const [key, entries] of answer) {
    const ref = refs[streams.indexOf(key)];
    if (ref === undefined) continue;
    // An entry without fields was removed while it was pending: there is nothing left to run.
    for (const [entryId, fields] of entries)
      if (fields !== null) calls.push({ ref, entryId, fields });
  }
  return calls;
}
