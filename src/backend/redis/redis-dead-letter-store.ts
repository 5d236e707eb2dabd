import { CALL_VERSION } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type { DeadLetterStore, RawDeadLetter } from '../dead-letter-store.js';
import type { RedisConnection } from './redis-connection.js';
import { runScript, scripts } from './scripts.js';

/** Dead letters as a stream per function. */
export class RedisDeadLetterStore implements DeadLetterStore {
  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
  ) {}

  async list(ref: FunctionRef, after: string, limit: number): Promise<RawDeadLetter[]> {
    const from = after === '' ? '-' : `(${after}`;
    const entries = await this.commands.command('XRANGE', (client) =>
      client.xrange(this.keys.deadLetters(ref), from, '+', 'COUNT', limit),
    );
    return entries.map(([id, fields]) => ({ id, fields }));
  }

  async requeue(
    ref: FunctionRef,
    id: string,
    ttlMs: number | undefined,
  ): Promise<string | undefined> {
    const keys = [this.keys.deadLetters(ref), this.keys.calls(ref)];
    const entryId = await this.commands.command('dead-retry', (client) =>
      runScript(client, scripts.deadRetry, keys, [id, ttlMs ?? '', CALL_VERSION]),
    );
    return typeof entryId === 'string' ? entryId : undefined;
  }

  async remove(ref: FunctionRef, ids: readonly string[]): Promise<number> {
    if (ids.length === 0) return 0;
    return this.commands.command('XDEL', (client) =>
      client.xdel(this.keys.deadLetters(ref), ...ids),
    );
  }

  async count(ref: FunctionRef): Promise<number> {
    return this.commands.command('XLEN', (client) => client.xlen(this.keys.deadLetters(ref)));
  }
}
