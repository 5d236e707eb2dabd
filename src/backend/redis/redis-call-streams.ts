import { Logger } from '@nestjs/common';
import { encodeCall, type CallSubmission } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type {
  CallReader,
  CallStreams,
  Cancelled,
  Outcome,
  Release,
  Released,
  ReplyReader,
} from '../call-streams.js';
import { GROUP, RedisCallReader } from './redis-call-reader.js';
import type { RedisConnection } from './redis-connection.js';
import { RedisReplyReader } from './redis-reply-reader.js';
import { around } from './redis-worker-store.js';
import { runScript, scripts } from './scripts.js';

/** A reply stream is cut at about this many entries: a caller that reads at all is never that far behind. */
const REPLY_STREAM_CAP = 10_000;
/** A function's dead letters are cut at about this many. */
const DEAD_LETTER_CAP = 10_000;
/** Outcomes in one script: bounded so that one script stays far below a millisecond per hundred. */
const OUTCOMES_PER_SCRIPT = 500;
const RELEASES_PER_SCRIPT = 200;

/** Makes a connection of its own for a blocking read. */
export type ConnectionFactory = (role: string) => RedisConnection;

/** Calls and replies over Redis Streams. */
export class RedisCallStreams implements CallStreams {
  private readonly logger = new Logger('REDIS');
  private readonly replyParts: readonly [string, string];

  constructor(
    private readonly commands: RedisConnection,
    private readonly connect: ConnectionFactory,
    private readonly keys: Keys,
  ) {
    this.replyParts = around(keys.replies('\0'));
  }

  async ensureGroups(refs: readonly FunctionRef[]): Promise<void> {
    await this.commands.command('XGROUP CREATE', (client) =>
      Promise.all(
        refs.map((ref) =>
          client
            .xgroup('CREATE', this.keys.calls(ref), GROUP, '0', 'MKSTREAM')
            .catch((error: Error) => {
              if (!error.message.startsWith('BUSYGROUP')) throw error;
            }),
        ),
      ),
    );
  }

  async submit(
    calls: readonly { readonly ref: FunctionRef; readonly call: CallSubmission }[],
  ): Promise<(string | Error)[]> {
    const pipeline = this.commands.client.pipeline();
    for (const { ref, call } of calls)
      pipeline.xadd(this.keys.calls(ref), '*', ...encodeCall(call));
    const results = (await pipeline.exec()) ?? [];
    return results.map(([error, id]) =>
      error === null ? (id as string) : (this.commands.translate('XADD', error) as Error),
    );
  }

  async cancel(ref: FunctionRef, entryId: string, callId: string): Promise<Cancelled> {
    const answer = await this.commands.command('cancel', (client) =>
      runScript(
        client,
        scripts.cancel,
        [this.keys.calls(ref)],
        [GROUP, entryId, callId, this.keys.control(''), ref.id],
      ),
    );
    return answer as Cancelled;
  }

  async conclude(outcomes: readonly Outcome[]): Promise<number[]> {
    if (outcomes.length <= OUTCOMES_PER_SCRIPT) return this.concludeBatch(outcomes);
    const lost: number[] = [];
    for (let from = 0; from < outcomes.length; from += OUTCOMES_PER_SCRIPT) {
      const batch = await this.concludeBatch(outcomes.slice(from, from + OUTCOMES_PER_SCRIPT));
      for (const index of batch) lost.push(from + index);
    }
    return lost;
  }

  private async concludeBatch(outcomes: readonly Outcome[]): Promise<number[]> {
    const keys: string[] = [];
    const indexes = new Map<string, number>();
    const indexOf = (key: string): number => {
      let index = indexes.get(key);
      if (index === undefined) indexes.set(key, (index = keys.push(key)));
      return index;
    };
    const args: (string | number)[] = [GROUP, REPLY_STREAM_CAP];
    for (const outcome of outcomes) {
      args.push(
        outcome.kind,
        indexOf(this.keys.calls(outcome.ref)),
        outcome.entryId,
        outcome.replyTo === '' ? 0 : indexOf(this.keys.replies(outcome.replyTo)),
        outcome.callId,
        outcome.reply,
      );
    }
    try {
      const answer = await runScript(this.commands.client, scripts.conclude, keys, args);
      const [lost, problem] = answer as [number[], string];
      if (problem !== '') this.logger.error(`a reply could not be written: ${problem}`);
      return lost;
    } catch (error) {
      throw this.commands.translate('conclude', error);
    }
  }

  async release(ref: FunctionRef, consumer: string, release: Release): Promise<Released> {
    const total = { requeued: 0, answered: 0, deadLettered: 0 };
    const open = release.kind === 'handed-back' ? [...release.entries] : [];
    for (;;) {
      const batch = open.splice(0, RELEASES_PER_SCRIPT);
      const [requeued, answered, deadLettered, more] = (await this.commands.command(
        'release',
        (client) =>
          runScript(
            client,
            scripts.release,
            [this.keys.calls(ref), this.keys.deadLetters(ref)],
            [
              GROUP,
              consumer,
              release.kind,
              release.kind === 'lost' ? release.maxDeliveries : 0,
              ...this.replyParts,
              REPLY_STREAM_CAP,
              DEAD_LETTER_CAP,
              RELEASES_PER_SCRIPT,
              `${ref.functionName} (workflow ${ref.workflowId})`,
              ...batch.flatMap(({ entryId, started }) => [entryId, started ? '1' : '0']),
            ],
          ),
      )) as [number, number, number, number];
      total.requeued += requeued;
      total.answered += answered;
      total.deadLettered += deadLettered;
      if (more === 0 && open.length === 0) return total;
    }
  }

  async backlog(ref: FunctionRef): Promise<number> {
    return this.commands.command('XLEN', (client) => client.xlen(this.keys.calls(ref)));
  }

  openReader(consumer: string): CallReader {
    const connection = this.connect('calls');
    connection.open();
    return new RedisCallReader(connection, this.commands, this.keys, consumer);
  }

  openReplies(processId: string): ReplyReader {
    const connection = this.connect('replies');
    connection.open();
    return new RedisReplyReader(connection, this.keys.replies(processId));
  }
}
