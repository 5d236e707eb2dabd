import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type {
  CallPressure,
  CallReader,
  CallStreams,
  Cancelled,
  Concluded,
  Outcome,
  RawCall,
  Release,
  Released,
  ReplyReader,
  Submission,
  Submitted,
  SubmitTerms,
} from '../call-streams.js';
import { CLAIM_GRACE_MS, DEAD_LETTER_CAP } from '../limits.js';
import { givenId, isGiven } from './given-calls.js';
import { GROUP, RedisCallReader } from './redis-call-reader.js';
import type { RedisConnection } from './redis-connection.js';
import { RedisOutcomeWriter } from './redis-outcome-writer.js';
import { RedisReplyReader } from './redis-reply-reader.js';
import { RedisSubmitter } from './redis-submitter.js';
import { around } from './redis-worker-store.js';
import { runScript, scripts } from './scripts.js';
import type { UntoldNews } from './untold-news.js';

const RELEASES_PER_SCRIPT = 200;
/** Of an inbox that is looked into: each has a call with its payload. */
const FIELDS_PER_SCRIPT = 100;
const PROMOTIONS_PER_SCRIPT = 100;

/** Makes a connection of its own for a blocking read. */
export type ConnectionFactory = (role: string, owner: string) => RedisConnection;

/** Calls and replies over Redis Streams. */
export class RedisCallStreams implements CallStreams {
  private readonly submitter: RedisSubmitter;
  private readonly outcomes: RedisOutcomeWriter;
  private readonly replyParts: readonly [string, string];
  private readonly inboxParts: readonly [string, string];
  /** Inboxes of lost sessions that are being looked at. */
  private readonly inboxes = new Map<string, Promise<ReadonlyMap<string, string[]>>>();

  constructor(
    private readonly commands: RedisConnection,
    private readonly connect: ConnectionFactory,
    private readonly keys: Keys,
    private readonly untold: UntoldNews,
  ) {
    this.submitter = new RedisSubmitter(commands, keys);
    this.outcomes = new RedisOutcomeWriter(commands, keys);
    this.replyParts = around(keys.replies('\0'));
    this.inboxParts = around(keys.inbox('\0'));
  }

  async ensureGroups(refs: readonly FunctionRef[], consumer: string): Promise<FunctionRef[]> {
    const answers = (await this.commands.command('XGROUP CREATE', (client) =>
      Promise.all(
        refs.map((ref) =>
          runScript(
            client,
            scripts.regroup,
            [this.keys.calls(ref), this.keys.workers(ref), this.keys.unclaimed()],
            [GROUP, consumer, this.keys.control(''), ref.id, CLAIM_GRACE_MS],
          ),
        ),
      ),
    )) as [left: number, untold: string][];
    for (const [, untold] of answers) this.untold.note(untold);
    return refs.filter((_, index) => answers[index]?.[0] === 1);
  }

  async claim(ref: FunctionRef, consumer: string, entryIds: readonly string[]): Promise<void> {
    // What was given is in no group.
    const read = entryIds.filter((entryId) => !isGiven(entryId));
    await this.commands.command('claim', (client) =>
      runScript(client, scripts.claim, [this.keys.calls(ref)], [GROUP, consumer, ...read]),
    );
  }

  async adopt(ref: FunctionRef): Promise<number> {
    let total = 0;
    let after = '0-0';
    while (after !== '') {
      const [adopted, next] = (await this.commands.command('adopt', (client) =>
        runScript(
          client,
          scripts.adopt,
          [this.keys.calls(ref), this.keys.unclaimed()],
          [
            GROUP,
            RELEASES_PER_SCRIPT,
            ...this.replyParts,
            `${ref.functionName} (workflow ${ref.workflowId})`,
            after,
            ref.id,
          ],
        ),
      )) as [number, string];
      total += adopted;
      after = next;
    }
    return total;
  }

  async inherit(ref: FunctionRef, from: string, to: string): Promise<RawCall[]> {
    const entries = (await this.commands.command('inherit', (client) =>
      runScript(client, scripts.inherit, [this.keys.calls(ref)], [GROUP, from, to]),
    )) as [entryId: string, fields: string[]][];
    return entries.map(([entryId, fields]) => ({ ref, entryId, fields }));
  }

  submit(calls: readonly Submission[], terms: SubmitTerms): Promise<Submitted[]> {
    return this.submitter.submit(calls, terms);
  }

  async cancel(
    ref: FunctionRef,
    entryId: string,
    callId: string,
    idempotencyKey: string | undefined,
  ): Promise<Cancelled> {
    const keys = [this.keys.calls(ref), this.keys.delayed(ref), this.keys.aside(ref)];
    if (idempotencyKey !== undefined) keys.push(this.keys.once(ref, idempotencyKey));
    const answer = await this.commands.command('cancel', (client) =>
      runScript(client, scripts.cancel, keys, [
        GROUP,
        entryId,
        callId,
        this.keys.control(''),
        ref.id,
        ...this.inboxParts,
      ]),
    );
    if (!Array.isArray(answer)) return answer as Cancelled;
    this.untold.note(String(answer[1]));
    return 'running';
  }

  conclude(outcomes: readonly Outcome[], consumer: string): Promise<Concluded> {
    return this.outcomes.conclude(outcomes, consumer);
  }

  async release(ref: FunctionRef, consumer: string, release: Release): Promise<Released> {
    const total = { requeued: 0, answered: 0, deadLettered: 0 };
    const open = [...(await this.entriesOf(ref, consumer, release))];
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
              DEAD_LETTER_CAP,
              RELEASES_PER_SCRIPT,
              `${ref.functionName} (workflow ${ref.workflowId})`,
              ...this.inboxParts,
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

  /** Calls to be released by their names, beside those that are pending for a lost consumer. */
  private async entriesOf(
    ref: FunctionRef,
    consumer: string,
    release: Release,
  ): Promise<readonly { readonly entryId: string; readonly started: boolean }[]> {
    if (release.kind === 'handed-back') return release.entries;
    const given = (await this.closeInbox(consumer)).get(ref.id) ?? [];
    return given.map((entryId) => ({ entryId, started: true }));
  }

  /** What lies in a lost session's inbox, by function id. Releases of all its functions come at once, and ask once. */
  private closeInbox(sessionId: string): Promise<ReadonlyMap<string, string[]>> {
    const known = this.inboxes.get(sessionId);
    if (known !== undefined) return known;
    const found = this.lookIntoInbox(sessionId).finally(() => this.inboxes.delete(sessionId));
    this.inboxes.set(sessionId, found);
    return found;
  }

  private async lookIntoInbox(sessionId: string): Promise<ReadonlyMap<string, string[]>> {
    const calls = new Map<string, string[]>();
    const keys = [this.keys.inbox(sessionId)];
    let from = '0';
    do {
      const [next = '0', ...flat] = (await this.commands.command('release', (client) =>
        runScript(client, scripts.closeInbox, keys, [from, FIELDS_PER_SCRIPT]),
      )) as string[];
      for (let at = 0; at + 1 < flat.length; at += 2) {
        const [id = '', field = ''] = flat.slice(at, at + 2);
        const entryId = givenId(sessionId, field);
        const known = calls.get(id);
        if (known === undefined) calls.set(id, [entryId]);
        else known.push(entryId);
      }
      from = next;
    } while (from !== '0');
    return calls;
  }

  async promote(ref: FunctionRef): Promise<number> {
    const promoted = await this.commands.command('promote', (client) =>
      runScript(
        client,
        scripts.promote,
        [
          this.keys.calls(ref),
          this.keys.delayed(ref),
          this.keys.aside(ref),
          this.keys.delayedFunctions(),
        ],
        [ref.id, PROMOTIONS_PER_SCRIPT, ...this.replyParts],
      ),
    );
    return Number(promoted);
  }

  async broken(refs: readonly FunctionRef[]): Promise<FunctionRef[]> {
    const types = await this.commands.command('TYPE', (client) =>
      Promise.all(refs.map((ref) => client.type(this.keys.calls(ref)))),
    );
    return refs.filter((_, index) => types[index] !== 'stream' && types[index] !== 'none');
  }

  async backlog(ref: FunctionRef): Promise<number> {
    return this.commands.command('XLEN', (client) => client.xlen(this.keys.calls(ref)));
  }

  async pressure(refs: readonly FunctionRef[]): Promise<CallPressure[]> {
    const answers = (await this.commands.command('pressure', (client) =>
      Promise.all(
        refs.map((ref) => runScript(client, scripts.pressure, [this.keys.calls(ref)], [GROUP])),
      ),
    )) as [calls: number, held: number, since: string][];
    return answers.map(([calls, held, since]) => ({
      calls,
      waiting: Math.max(0, calls - held),
      since: since === '' ? undefined : Number(since),
    }));
  }

  openReader(consumer: string): CallReader {
    const connection = this.connect('calls', consumer);
    connection.open();
    return new RedisCallReader(connection, this.commands, this.keys, consumer);
  }

  openReplies(processId: string): ReplyReader {
    const connection = this.connect('replies', processId);
    connection.open();
    return new RedisReplyReader(connection, this.keys.replies(processId));
  }
}
