import { isRefused } from '../../common/errors.js';
import { CALL_FIELDS, encodeCall, encodeCalls } from '../../protocol/call.js';
import type { Keys } from '../../protocol/keys.js';
import type { Submission, Submitted, SubmitTerms } from '../call-streams.js';
import { CallGiver, DIRECT, type Way } from './call-giver.js';
import { LoneCalls } from './lone-calls.js';
import type { RedisConnection } from './redis-connection.js';
import { around } from './redis-worker-store.js';
import { runScript, scripts } from './scripts.js';

const CALLS_PER_SCRIPT = 500;
/** Of payloads in one script; Redis takes no argument above 512 MB. */
const CHARACTERS_PER_SCRIPT = 16 * 1024 * 1024;

/** Adds calls to their streams; those of one batch in one script, each function's in their order. */
export class RedisSubmitter {
  private readonly replyParts: readonly [string, string];
  private readonly lone: LoneCalls;
  private readonly giver: CallGiver;

  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
  ) {
    this.replyParts = around(keys.replies('\0'));
    this.lone = new LoneCalls(commands, keys);
    this.giver = new CallGiver(commands, keys, (functionId) => this.lone.spare(functionId));
  }

  async submit(calls: readonly Submission[], terms: SubmitTerms): Promise<Submitted[]> {
    const [call] = calls;
    if (call === undefined) return [];
    const way = this.giver.wayOf(call.ref);
    if (calls.some(({ ref }) => ref !== call.ref && this.giver.wayOf(ref) !== way))
      return this.submitByWay(calls, terms);
    const isAlone = calls.length === 1 && way.pools.length === 0 && isPlain(call);
    if (isAlone && this.lone.take(call.ref, terms.maxBacklog)) return this.submitAlone(call, terms);
    if (isOneRun(calls)) return this.submitBatch(calls, way, terms);
    const results: Promise<Submitted[]>[] = [];
    // All are sent before the first is answered: their order in the streams is the order here.
    for (const { from, to, once } of runsOf(calls)) {
      const batch = calls.slice(from, to);
      results.push(
        once
          ? Promise.all(batch.map((call) => this.submitOnce(call, terms)))
          : this.submitBatch(batch, way, terms),
      );
    }
    return (await Promise.all(results)).flat();
  }

  /** Those that are added in the same way together; a function's are in their order. */
  private async submitByWay(
    calls: readonly Submission[],
    terms: SubmitTerms,
  ): Promise<Submitted[]> {
    const parts = new Map<Way, number[]>();
    for (const [index, { ref }] of calls.entries()) {
      const way = this.giver.wayOf(ref);
      const part = parts.get(way);
      if (part === undefined) parts.set(way, [index]);
      else part.push(index);
    }
    const results: Submitted[] = [];
    await Promise.all(
      [...parts.values()].map(async (indexes) => {
        const mine = indexes.map((index) => calls[index] as Submission);
        const submitted = await this.submit(mine, terms);
        for (const [position, index] of indexes.entries())
          results[index] = submitted[position] ?? new Error('Redis gave no answer');
      }),
    );
    return results;
  }

  private async submitAlone(call: Submission, terms: SubmitTerms): Promise<Submitted[]> {
    try {
      const key = this.keys.calls(call.ref);
      const id = await this.commands.client.xadd(key, '*', CALL_FIELDS.call, encodeCall(call));
      return [id as string];
    } catch (error) {
      const problem = this.commands.translate('submit', error);
      if (!isRefused(problem)) throw problem;
      // Nothing was written: the script says how it is refused.
      return this.submitBatch([call], DIRECT, terms);
    }
  }

  private async submitBatch(
    calls: readonly Submission[],
    way: Way,
    terms: SubmitTerms,
  ): Promise<Submitted[]> {
    try {
      if (way === DIRECT) return await this.addBatch(calls, terms);
      return await this.giver.give(calls, way, terms, (told) => this.toSubmitted(told));
    } catch (error) {
      throw this.commands.translate('submit', error);
    }
  }

  private async addBatch(
    calls: readonly Submission[],
    { maxBacklog }: SubmitTerms,
  ): Promise<Submitted[]> {
    const groups = groupsOf(calls);
    const keys: string[] = [];
    const args: (string | number)[] = [maxBacklog];
    for (const group of groups) {
      keys.push(this.keys.calls((group[0] as Submission).ref));
      args.push(encodeCalls(group));
    }
    const script = runScript(this.commands.client, scripts.submit, keys, args);
    const answer = (await script) as (string | string[])[];
    if (answer.length > groups.length)
      for (const [index, [call]] of groups.entries())
        this.giver.learn((call as Submission).ref.id, answer[groups.length + index] as string[]);
    return inOrder(calls, groups, answer, (told) => this.toSubmitted(told));
  }

  private async submitOnce(call: Submission, { maxBacklog }: SubmitTerms): Promise<Submitted> {
    const { ref, callId, replyTo, ttlMs, again, idempotencyKey: name = '' } = call;
    const keys = [this.keys.calls(ref), this.keys.once(ref, name)];
    const args = [
      ...[maxBacklog, encodeCall(call), again ? 1 : 0],
      ...[callId, replyTo, ttlMs, name, ...this.replyParts],
    ];
    try {
      const answer = await runScript(this.commands.client, scripts.submitOnce, keys, args);
      return this.toSubmitted(answer as string);
    } catch (error) {
      return this.commands.translate('submit', error);
    }
  }

  private toSubmitted(answer: string): Submitted {
    if (answer === '=') return 'answered';
    if (answer.startsWith('!full ')) return { backlog: Number(answer.slice('!full '.length)) };
    return answer.startsWith('!') ? this.commands.refusal('submit', answer.slice(1)) : answer;
  }
}

/** Whether nothing but an entry has to be written for it. */
function isPlain({ again, idempotencyKey }: Submission): boolean {
  return !again && idempotencyKey === undefined;
}

/** Whether calls can be written by one script: nearly always. */
function isOneRun(calls: readonly Submission[]): boolean {
  let characters = 0;
  for (const { idempotencyKey, payload } of calls) {
    if (idempotencyKey !== undefined) return false;
    characters += payload.length;
  }
  return calls.length <= CALLS_PER_SCRIPT && characters <= CHARACTERS_PER_SCRIPT;
}

/** Runs of neighbours that are written in the same way, each short enough for one script. */
function runsOf(
  calls: readonly Submission[],
): { readonly from: number; readonly to: number; readonly once: boolean }[] {
  const runs: { from: number; to: number; once: boolean }[] = [];
  let characters = 0;
  for (const [index, { idempotencyKey, payload }] of calls.entries()) {
    const once = idempotencyKey !== undefined;
    const last = runs.at(-1);
    characters += payload.length;
    const fits =
      last?.once === once &&
      last.to - last.from < CALLS_PER_SCRIPT &&
      characters <= CHARACTERS_PER_SCRIPT;
    if (fits) last.to = index + 1;
    else {
      runs.push({ from: index, to: index + 1, once });
      characters = payload.length;
    }
  }
  return runs;
}

/** The calls of each function, in their order. */
function groupsOf(calls: readonly Submission[]): readonly (readonly Submission[])[] {
  const id = calls[0]?.ref.id;
  if (calls.every(({ ref }) => ref.id === id)) return [calls];
  const groups = new Map<string, Submission[]>();
  for (const call of calls) {
    const group = groups.get(call.ref.id);
    if (group === undefined) groups.set(call.ref.id, [call]);
    else group.push(call);
  }
  return [...groups.values()];
}

/** What came of each call, in the order of the submission. */
function inOrder(
  calls: readonly Submission[],
  groups: readonly (readonly Submission[])[],
  answers: readonly (string | string[])[],
  toSubmitted: (answer: string) => Submitted,
): Submitted[] {
  const [answer = ''] = answers;
  if (groups.length === 1) return resultsOf(answer, calls.length, toSubmitted);
  const results = new Map<string, Submitted[]>();
  for (const [index, group] of groups.entries())
    results.set(
      (group[0] as Submission).ref.id,
      resultsOf(answers[index] ?? '', group.length, toSubmitted).reverse(),
    );
  return calls.map(({ ref }) => results.get(ref.id)?.pop() ?? new Error('Redis gave no answer'));
}

/** Results of one function's calls; from the id of the first one, when the others' follow it. */
function resultsOf(
  answer: string | string[],
  count: number,
  toSubmitted: (answer: string) => Submitted,
): Submitted[] {
  if (typeof answer !== 'string') return answer.map(toSubmitted);
  if (count === 1) return [toSubmitted(answer)];
  const dash = answer.indexOf('-');
  const head = answer.slice(0, dash + 1);
  const first = Number(answer.slice(dash + 1));
  return Array.from({ length: count }, (_, index) => `${head}${first + index}`);
}
