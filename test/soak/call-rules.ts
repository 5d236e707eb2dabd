import type { CallMade } from './history.js';
import { AFTERMATH_MS, FORGETS } from './faults.js';
import type { Call, Run, Story } from './story.js';

/** After its limit a caller's timer may be this late on a machine that does other things too. */
const SETTLE_SLACK_MS = 2_500;
/** Sockets whose other end is gone are given up after 200 ms. */
const EXIT_SLACK_MS = 2_000;
/** No call of the storm has more to do than half of this, retries included. */
const CLEAN_LIMIT_MS = 4_000;
/**
 * A deadline is counted in whole milliseconds, on a clock whose distance is measured; and between the look at the clock and
 * the first line of a handler the machine may take its worker off the processor. In half an hour at a load of 8 to 15 on
 * two cores that was seen once, for 36 ms.
 */
const DEADLINE_SLACK_MS = 60;

/** So long the first call of a function in a process waits for the record of its circuit, before its own times begin. */
const CIRCUIT_READ_MS = 1_000;

const LOSES_WORKER = /^(kill-|freeze-|proxy-(hold|drop|refuse)|redis-|flushall|group-destroy)/;

/** What a call may fail with, by how it was made. */
function mayFailWith({ kind, delivery, impatient }: CallMade, code: string): boolean {
  switch (code) {
    case 'CLOSED':
      return true; // the checker looks whether its caller was closing
    case 'CALL_CANCELLED':
      return kind === 'cancelled';
    case 'DEADLINE_EXCEEDED':
    case 'HANDLER_FAILED': // its handler heard of the deadline and threw, just before its caller's timer
      return impatient && kind !== 'bound';
    // Who does not wait for a worker does not wait for Redis either.
    case 'NO_WORKER':
    case 'BACKEND_UNAVAILABLE':
      return kind === 'unwaiting' || kind === 'flow-now';
    case 'FUSED':
    case 'CIRCUIT_OPEN':
      return kind === 'fused';
    case 'READINESS_TIMEOUT': // its workers are waited for, until they have restarted
      return kind === 'fused' || kind === 'bound';
    case 'GENERATION_GONE':
      return kind === 'bound';
    case 'WORKER_LOST':
    case 'OUTCOME_UNKNOWN':
      return delivery === 'at-most-once';
    case 'MAX_DELIVERIES':
      return true;
    default:
      return false;
  }
}

/** What is promised of every call. */
export class CallRules {
  readonly violations: string[] = [];

  constructor(private readonly story: Story) {}

  check(): readonly string[] {
    for (const call of this.story.calls.values()) {
      this.checkSettled(call);
      this.checkResult(call);
      this.checkOnce(call);
      this.checkDeadline(call);
      this.checkClean(call);
    }
    this.checkKeys();
    this.checkExits();
    return this.violations;
  }

  /** Every accepted call settles exactly once at its caller, in time, and with what may come of it. */
  private checkSettled(call: Call): void {
    const { made, settled } = call;
    if (settled.length > 1) this.violate(`settled ${settled.length} times`, call);
    const end = settled[0];
    if (end === undefined) {
      if (!this.story.wasKilled(made.who))
        this.violate('never settled, and its caller lives', call);
      return;
    }
    const limit = made.timeoutMs + made.readinessTimeoutMs + SETTLE_SLACK_MS;
    const late = end.t - made.t - limit - this.story.faults.standstill(made.t, end.t);
    if (late > 0) this.violate(`settled ${Math.round(late)} ms after its limit`, call);
    if (end.code === undefined) return;
    if (end.code === 'CLOSED' && this.story.lives.get(made.who)?.stoppingAt === undefined)
      this.violate('settled as closed, and its caller was not closing', call);
    if (!mayFailWith(made, end.code)) this.violate(`failed with ${end.code}`, call);
  }

  /** A result is of a run, and of one that owned the call when it ended. */
  private checkResult(call: Call): void {
    const end = call.settled[0];
    if (end?.run === undefined) return;
    const run =
      call.runs.find(({ start }) => start.run === end.run) ?? this.sharedRun(call, end.run);
    if (run === undefined) return this.violate(`its result is of no run (${end.run})`, call);
    if (run.end === undefined || this.hasTwoEntries(call)) return;
    for (const other of call.runs) {
      if (other.start.attempt > run.start.attempt && other.start.t < run.end.t)
        this.violate(
          `got the result of attempt ${run.start.attempt}, which ended after attempt ${other.start.attempt} began`,
          call,
        );
    }
  }

  /** At most once means at most once. */
  private checkOnce(call: Call): void {
    if (call.made.delivery !== 'at-most-once' || call.runs.length <= 1) return;
    this.violate(`at-most-once and ran ${call.runs.length} times`, call);
  }

  /** No run starts after the call's deadline, on the caller's own clock and on what its worker made of it. */
  private checkDeadline(call: Call): void {
    const { made } = call;
    for (const { start } of call.runs) {
      if (start.leftMs <= -DEADLINE_SLACK_MS)
        this.violate(`started ${-start.leftMs} ms after its deadline, by its worker's clock`, call);
      const circuitMs = made.kind === 'fused' ? CIRCUIT_READ_MS : 0;
      const latest = made.t + circuitMs + made.readinessTimeoutMs + made.timeoutMs;
      const late = start.t - latest - this.story.faults.standstill(made.t, start.t) - 50;
      if (late > 0 && made.key === undefined)
        this.violate(
          `started ${Math.round(late)} ms after its deadline, by its caller's clock`,
          call,
        );
    }
  }

  /** What lived while nothing but graceful restarts happened succeeds and runs as often as it should. */
  private checkClean(call: Call): void {
    const { made, settled } = call;
    const end = settled[0];
    if (end === undefined || made.impatient || made.key !== undefined) return;
    if (end.code === 'CLOSED' || !this.story.faults.isClean(made.t, end.t)) return;
    if (end.code !== undefined)
      this.violate(`failed with ${end.code} while nothing was wrong`, call);
    const tookMs = end.t - made.t;
    if (tookMs > CLEAN_LIMIT_MS)
      this.violate(`took ${Math.round(tookMs)} ms while nothing was wrong`, call);
    const expected = made.fails + 1;
    if (call.runs.length !== expected)
      this.violate(
        `ran ${call.runs.length} times instead of ${expected} while nothing was wrong`,
        call,
      );
  }

  /** Calls with one key run once, unless a worker or Redis was lost meanwhile. */
  private checkKeys(): void {
    const groups = new Map<string, Call[]>();
    for (const call of this.story.calls.values()) {
      const { key } = call.made;
      if (key !== undefined) groups.set(key, [...(groups.get(key) ?? []), call]);
    }
    for (const [key, calls] of groups) {
      const from = Math.min(...calls.map(({ made }) => made.t));
      const to = Math.max(...calls.map(({ made, settled }) => settled[0]?.t ?? made.t + 1_000));
      const runs = calls.flatMap((call) => call.runs);
      if (runs.length <= 1 || this.story.faults.overlaps(from, to, LOSES_WORKER)) continue;
      this.violate(`key ${key} ran ${runs.length} times for ${calls.length} calls`, calls[0]);
    }
  }

  /** A closed process ends by itself: no timer, socket or waiter keeps it. */
  private checkExits(): void {
    for (const { who, closed, exitedAt } of this.story.lives.values()) {
      if (closed === undefined || exitedAt === undefined) continue;
      const tookMs = exitedAt - closed.t;
      if (tookMs < EXIT_SLACK_MS) continue;
      this.violate(
        `${who} was closed and lived on for ${Math.round(tookMs)} ms, with ${closed.resources.join(', ')}`,
      );
    }
  }

  /** The run is in the history of another call that shares the idempotency key. */
  private sharedRun({ made }: Call, run: string): Run | undefined {
    if (made.key === undefined) return undefined;
    for (const { made: other, runs } of this.story.calls.values()) {
      if (other.key !== made.key) continue;
      const found = runs.find(({ start }) => start.run === run);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  private hasTwoEntries(call: Call): boolean {
    const { made, runs, settled } = call;
    const end = settled[0]?.t ?? Infinity;
    if (runs.some(({ start }) => this.story.writtenAgain.has(start.callId))) return true;
    return (this.story.allWrittenAgainAt.get(made.who) ?? []).some((t) => t >= made.t && t <= end);
  }

  private violate(what: string, call?: Call): void {
    this.violations.push(call === undefined ? what : tell(this.story, call, what));
  }
}

/** A call with all that became of it, and the faults around it. */
export function tell(story: Story, { made, settled, runs }: Call, what: string): string {
  const at = (t: number): string => `+${(t - made.t).toFixed(0)}`;
  const until = (settled[0]?.t ?? made.t + AFTERMATH_MS) + 1_000;
  const around = story.faults.all
    .filter(({ from, to }) => to > made.t - 5_000 && from < until)
    .map(({ kind, target, from, to }) => `${kind} ${target} ${at(from)}..${at(to)}`);
  return [
    `${made.kind} call ${made.id} of ${made.who}: ${what}`,
    `  made at ${made.t.toFixed(0)} (${made.fn}, ${made.delivery}, timeout ${made.timeoutMs}, key ${made.key ?? '-'}), ` +
      settled.map(({ t, code, run }) => `settled ${at(t)} ${code ?? run ?? ''}`).join(', '),
    ...runs.map(
      ({ start, end }) =>
        `  run ${start.run} attempt ${start.attempt} on ${start.who} (callId ${start.callId}, left ${start.leftMs}): ${at(start.t)}..${end === undefined ? '' : `${at(end.t)} ${end.how}`}`,
    ),
    `  faults: ${around.join('; ')}`,
  ].join('\n');
}

/** What a storm was made of. */
export function figuresOf(story: Story): Record<string, number> {
  const all = [...story.calls.values()];
  const ended = all.flatMap(({ settled }) => settled.slice(0, 1));
  const clean = all.filter(
    ({ made, settled }) => settled[0] !== undefined && story.faults.isClean(made.t, settled[0].t),
  );
  const lasted = all
    .filter(({ made, settled }) => settled[0]?.run !== undefined && !made.impatient)
    .map(({ made, settled }) => (settled[0]?.t ?? 0) - made.t)
    .sort((a, b) => a - b);
  const codes: Record<string, number> = {};
  for (const { code } of ended) if (code !== undefined) codes[code] = (codes[code] ?? 0) + 1;
  return {
    calls: all.length,
    succeeded: ended.filter(({ run }) => run !== undefined).length,
    'of callers that were killed': all.filter(({ settled }) => settled.length === 0).length,
    runs: story.runs,
    'calls that ran more than once': all.filter(({ made, runs }) => runs.length > made.fails + 1)
      .length,
    'calls among graceful restarts alone': clean.length,
    'faults that make Redis forget': story.faults.all.filter(({ kind }) => FORGETS.test(kind))
      .length,
    'slowest success, ms': Math.round(lasted.at(-1) ?? 0),
    ...codes,
  };
}
