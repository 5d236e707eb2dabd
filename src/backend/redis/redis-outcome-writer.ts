import { Logger } from '@nestjs/common';
import { encodeReplies } from '../../protocol/call.js';
import { labelOf } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type { Concluded, Outcome } from '../call-streams.js';
import {
  DEAD_LETTER_CAP,
  LAST_PASS_DELAY_MS,
  MAX_ASIDE,
  PASSES_AT_ONCE,
  PROGRESS_CAP,
} from '../limits.js';
import { isGiven, isGivenTo, placeOf } from './given-calls.js';
import { GROUP } from './redis-call-reader.js';
import type { RedisConnection } from './redis-connection.js';
import { around } from './redis-worker-store.js';
import { ScriptKeys } from './script-keys.js';
import { runScript, scripts, type Script } from './scripts.js';

/** Outcomes in one script: bounded so that one script stays far below a millisecond per hundred. */
const OUTCOMES_PER_SCRIPT = 500;
/** Of replies in one script; Redis takes no argument above 512 MB. */
const CHARACTERS_PER_SCRIPT = 16 * 1024 * 1024;

/**
 * Carries outcomes out, in their order: plain ones in one script for all, and one script each for those that put
 * a call aside, bury it, or are shared by an idempotency key.
 */
export class RedisOutcomeWriter {
  private readonly logger = new Logger('REDIS');
  private readonly replyParts: readonly [string, string];
  private readonly leaseParts: readonly [string, string];
  private readonly givenParts: readonly [string, string];
  private readonly inboxParts: readonly [string, string];

  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
  ) {
    this.replyParts = around(keys.replies('\0'));
    this.leaseParts = around(keys.lease('\0'));
    this.givenParts = around(keys.given('\0'));
    this.inboxParts = around(keys.inbox('\0'));
  }

  async conclude(outcomes: readonly Outcome[], consumer: string): Promise<Concluded> {
    if (outcomes.length === 0) return ALL_CARRIED_OUT;
    if (isOneBatch(outcomes)) return this.concludeBatch(outcomes, consumer);
    const total = { lost: [] as number[], again: [] as number[], why: '' };
    let batch: number[] = [];
    let characters = 0;
    const flush = async (): Promise<void> => {
      const indexes = batch;
      batch = [];
      characters = 0;
      if (indexes.length === 0) return;
      const mine = await this.concludeBatch(
        indexes.map((index) => outcomes[index] as Outcome),
        consumer,
      );
      for (const position of mine.lost) total.lost.push(indexes[position] as number);
      for (const position of mine.again) total.again.push(indexes[position] as number);
      if (mine.why !== '') total.why = mine.why;
    };
    for (const [index, outcome] of outcomes.entries()) {
      const { length } = outcome.reply;
      const isFull =
        batch.length === OUTCOMES_PER_SCRIPT || characters + length > CHARACTERS_PER_SCRIPT;
      if (isFull || isSpecial(outcome)) await flush();
      if (isSpecial(outcome)) await this.noteSpecial(outcome, index, total);
      else {
        batch.push(index);
        characters += length;
      }
    }
    await flush();
    return total;
  }

  private async noteSpecial(
    outcome: Outcome,
    index: number,
    total: { lost: number[]; again: number[]; why: string },
  ): Promise<void> {
    const answer = await this.concludeSpecial(outcome);
    if (answer === 0) total.lost.push(index);
    if (typeof answer !== 'string') return;
    total.again.push(index);
    total.why = answer;
  }

  /** 1, 0 when the call was not owned, or why it has to be said again. */
  private async concludeSpecial(outcome: Outcome): Promise<number | string> {
    if (outcome.kind === 'bury') return this.bury(outcome);
    if (outcome.kind === 'pass') return this.pass(outcome);
    if (outcome.kind !== 'retry') return this.concludeOnce(outcome);
    const { ref, entryId, delayMs = 0, failure = '{}' } = outcome;
    const keys = [
      this.keys.calls(ref),
      this.keys.delayed(ref),
      this.keys.aside(ref),
      this.keys.delayedFunctions(),
    ];
    const own = [GROUP, entryId, Math.ceil(delayMs), failure, ref.id, MAX_ASIDE];
    const args = [...own, ...this.inboxParts];
    const answer = await this.outcomeScript(scripts.postpone, keys, args);
    if (answer !== -1) return answer as number;
    this.logger.warn(
      `${ref.functionName} (workflow ${ref.workflowId}) has ${MAX_ASIDE} calls that wait for another attempt: no more are kept`,
    );
    return this.bury(outcome);
  }

  private async pass({
    ref,
    entryId,
    delayMs = 0,
    generation = 0,
  }: Outcome): Promise<number | string> {
    const keys = [
      this.keys.calls(ref),
      this.keys.delayed(ref),
      this.keys.aside(ref),
      this.keys.delayedFunctions(),
      this.keys.workers(ref),
    ];
    const args = [GROUP, entryId, generation, Math.ceil(delayMs), ref.id, MAX_ASIDE, labelOf(ref)];
    const parts = [...this.leaseParts, ...this.replyParts];
    const bounds = [LAST_PASS_DELAY_MS, PASSES_AT_ONCE];
    const all = [...args, ...parts, ...bounds, ...this.givenParts, ...this.inboxParts];
    return (await this.outcomeScript(scripts.pass, keys, all)) as number | string;
  }

  private async bury({ ref, entryId, reply, failure = '{}' }: Outcome): Promise<number | string> {
    const keys = [this.keys.calls(ref), this.keys.deadLetters(ref)];
    const own = [GROUP, entryId, reply, failure];
    const args = [...own, ...this.replyParts, DEAD_LETTER_CAP, ...this.inboxParts];
    return (await this.outcomeScript(scripts.bury, keys, args)) as number | string;
  }

  private async concludeOnce(outcome: Outcome): Promise<number | string> {
    const { ref, once = { key: '', keepMs: 0 } } = outcome;
    const answer = await this.outcomeScript(
      scripts.concludeOnce,
      [this.keys.calls(ref), this.keys.once(ref, once.key)],
      [
        GROUP,
        outcome.kind,
        outcome.entryId,
        outcome.callId,
        outcome.replyTo,
        once.key,
        outcome.reply,
        once.keepMs,
        ...this.replyParts,
        PROGRESS_CAP,
      ],
    );
    return answer as number | string;
  }

  private async outcomeScript(
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<unknown> {
    try {
      return await runScript(this.commands.client, script, keys, args);
    } catch (error) {
      throw this.commands.translate('conclude', error);
    }
  }

  private concludeBatch(outcomes: readonly Outcome[], consumer: string): Promise<Concluded> {
    return outcomes.every(isFinal)
      ? this.settleBatch(outcomes, consumer)
      : this.sayBatch(outcomes, consumer);
  }

  /** By where the calls are: nearly always all in streams, or all in this session's inbox. */
  private async settleBatch(outcomes: readonly Outcome[], consumer: string): Promise<Concluded> {
    const sessionOf = ({ entryId }: Outcome): string =>
      isGiven(entryId) ? placeOf(entryId).sessionId : '';
    const [one] = outcomes as readonly [Outcome];
    const first = sessionOf(one);
    const settle = (some: readonly Outcome[], sessionId: string): Promise<Concluded> =>
      sessionId === '' ? this.settlePending(some, consumer) : this.settleGiven(some, sessionId);
    const isAlike = ({ entryId }: Outcome): boolean =>
      first === '' ? !isGiven(entryId) : isGivenTo(entryId, first);
    if (outcomes.every(isAlike)) return settle(outcomes, first);
    const parts = new Map<string, number[]>();
    for (const [index, outcome] of outcomes.entries()) {
      const sessionId = sessionOf(outcome);
      const part = parts.get(sessionId);
      if (part === undefined) parts.set(sessionId, [index]);
      else part.push(index);
    }
    const total = { lost: [] as number[], again: [] as number[], why: '' };
    await Promise.all(
      [...parts].map(async ([sessionId, indexes]) => {
        const some = indexes.map((index) => outcomes[index] as Outcome);
        const { lost, again, why } = await settle(some, sessionId);
        for (const position of lost) total.lost.push(indexes[position] as number);
        for (const position of again) total.again.push(indexes[position] as number);
        if (why !== '') total.why = why;
      }),
    );
    return total;
  }

  private async settleGiven(outcomes: readonly Outcome[], sessionId: string): Promise<Concluded> {
    const callers = byCaller(outcomes).map(flattened);
    const inbox = this.keys.inbox(sessionId);
    const keys = [inbox];
    const args: (string | number)[] = [];
    for (const mine of callers) {
      const [{ replyTo }] = mine as readonly [Outcome];
      keys.push(replyTo === '' ? inbox : this.keys.replies(replyTo));
      args.push(replyTo === '' ? '' : encodeReplies(mine), mine.length);
      for (const { entryId } of mine) args.push(placeOf(entryId).field);
    }
    return toConcluded(
      await this.outcomeScript(scripts.settleGiven, keys, args),
      outcomes,
      callers.flat(),
    );
  }

  /** Nearly all that is said: answers with which their calls end. */
  private async settlePending(outcomes: readonly Outcome[], consumer: string): Promise<Concluded> {
    const callers = byCaller(outcomes);
    const keys: string[] = [];
    const args: (string | number)[] = [GROUP, consumer];
    for (const functions of callers) {
      const [{ ref, replyTo }] = functions[0] as [Outcome];
      keys.push(replyTo === '' ? this.keys.calls(ref) : this.keys.replies(replyTo));
      args.push(functions.length, replyTo === '' ? '' : encodeReplies(flattened(functions)));
      for (const group of functions) {
        keys.push(this.keys.calls((group[0] as Outcome).ref));
        args.push(group.length);
        for (const { entryId } of group) args.push(entryId);
      }
    }
    return toConcluded(
      await this.outcomeScript(scripts.settle, keys, args),
      outcomes,
      callers.flat(2),
    );
  }

  private async sayBatch(outcomes: readonly Outcome[], consumer: string): Promise<Concluded> {
    const keys = new ScriptKeys();
    const args: (string | number)[] = [GROUP, consumer, PROGRESS_CAP, ...this.inboxParts];
    for (const outcome of outcomes) {
      args.push(
        outcome.kind,
        keys.of(this.keys.calls(outcome.ref)),
        outcome.entryId,
        outcome.replyTo === '' ? 0 : keys.of(this.keys.replies(outcome.replyTo)),
        outcome.callId,
        outcome.reply,
      );
    }
    const answer = await this.outcomeScript(scripts.conclude, keys.all, args);
    const [lost, again, why] = answer as [number[], number[], string];
    return { lost, again, why };
  }
}

const ALL_CARRIED_OUT: Concluded = { lost: [], again: [], why: '' };

/** What a script that settles answered, which counts the outcomes from one, in the order in which they were said. */
function toConcluded(
  answer: unknown,
  outcomes: readonly Outcome[],
  said: readonly Outcome[],
): Concluded {
  if (answer === null) return ALL_CARRIED_OUT;
  const [lost, again, why] = answer as [number[], number[], string];
  const indexes = new Map(outcomes.map((outcome, index) => [outcome, index]));
  const indexOf = (number: number): number => indexes.get(said[number - 1] as Outcome) as number;
  return { lost: lost.map(indexOf), again: again.map(indexOf), why };
}

/** Whether outcomes can be carried out by one script: nearly always. */
function isOneBatch(outcomes: readonly Outcome[]): boolean {
  let characters = 0;
  for (const outcome of outcomes) {
    if (isSpecial(outcome)) return false;
    characters += outcome.reply.length;
  }
  return outcomes.length <= OUTCOMES_PER_SCRIPT && characters <= CHARACTERS_PER_SCRIPT;
}

/** Whether its call is over with it. */
function isFinal({ kind }: Outcome): boolean {
  return kind === 'settle' || kind === 'discard';
}

/** The outcomes for each caller, and of them those of each function. */
function byCaller(outcomes: readonly Outcome[]): readonly (readonly (readonly Outcome[])[])[] {
  const [first] = outcomes;
  if (outcomes.every(({ ref, replyTo }) => ref === first?.ref && replyTo === first.replyTo))
    return [[outcomes]];
  const callers = new Map<string, Map<string, Outcome[]>>();
  for (const outcome of outcomes) {
    const { ref, replyTo } = outcome;
    let functions = callers.get(replyTo);
    if (functions === undefined) callers.set(replyTo, (functions = new Map<string, Outcome[]>()));
    const group = functions.get(ref.id);
    if (group === undefined) functions.set(ref.id, [outcome]);
    else group.push(outcome);
  }
  return [...callers.values()].map((functions) => [...functions.values()]);
}

function flattened(functions: readonly (readonly Outcome[])[]): readonly Outcome[] {
  return functions.length === 1 ? (functions[0] as readonly Outcome[]) : functions.flat();
}

function isSpecial(outcome: Outcome): boolean {
  return (
    outcome.once !== undefined ||
    outcome.kind === 'retry' ||
    outcome.kind === 'bury' ||
    outcome.kind === 'pass'
  );
}
