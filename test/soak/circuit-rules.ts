import { tell } from './call-rules.js';
import { checkAlone } from './alone-rules.js';
import { brokenTimes } from './fuse.js';
import type { CircuitRecorded } from './history.js';
import { CIRCUIT, STORM } from './plan.js';
import { SHAKES } from './faults.js';
import type { Call, Of, Story } from './story.js';

type Change = Of<CircuitRecorded>;

/** Changes are told within milliseconds; this machine has two cores for a dozen processes, some of which boot. */
const NEWS_MS = 500;
/** The onlooker, who writes down what the record is, hears it as late as others do. */
const LOOK_SLACK_MS = 200;
const REFUSED_WITHIN_MS = 1_000;
/** A probe waits for a worker, runs, and says what it found. */
const PROBE_MS = 2_000 + 400 + 1_500;
/** Half of a window with nothing but failures, the first half second in which nothing opens, and the calls' own time. */
const OPENS_WITHIN_MS = CIRCUIT.windowMs + 500 + 400 + NEWS_MS;
/** The time it stays open, twice, for a probe may have begun before the function worked again. */
const CLOSES_WITHIN_MS = 2 * CIRCUIT.openMs + 400 + 2 * NEWS_MS;
/** An opening of the record, to when it was closed again. */
interface Opening {
  readonly from: Change;
  readonly to: number;
  readonly probes: Change[];
}

/** What is promised of the circuit of `fused`, by the record that an onlooker saw. */
export class CircuitRules {
  private readonly violations: string[] = [];
  private readonly calls: Call[];
  private readonly openings: Opening[] = [];
  private checkedRefusals = 0;
  private checkedPasses = 0;

  constructor(private readonly story: Story) {
    this.calls = [...story.calls.values()].filter(({ made }) => made.kind === 'fused');
    let opening: Opening | undefined;
    const end = (to: number): void => {
      if (opening !== undefined) this.openings.push({ ...opening, to });
      opening = undefined;
    };
    for (const record of story.records) {
      if (record.state === 'closed') end(record.t);
      else if (record.state === 'open') opening ??= { from: record, to: Infinity, probes: [] };
      else opening?.probes.push(record);
    }
    end(Infinity);
  }

  check(): readonly string[] {
    this.checkGenerations();
    for (const opening of this.openings) this.checkPasses(opening);
    this.checkProbers();
    for (const call of this.calls) this.checkRefusal(call);
    for (const fuse of this.story.fuses)
      for (const { from, to } of brokenTimes(fuse)) this.checkTimes(from, to);
    return [...this.violations, ...checkAlone(this.story)];
  }

  figures(): Record<string, number> {
    const { records } = this.story;
    const count = (state: string): number =>
      records.filter((record) => record.state === state).length;
    return {
      openings: this.openings.length,
      probes: count('half-open'),
      closings: count('closed'),
      'calls refused': this.calls.filter(({ settled }) => settled[0]?.code === 'CIRCUIT_OPEN')
        .length,
      'refusals checked': this.checkedRefusals,
      'calls checked while it was open': this.checkedPasses,
      'times that a caller was alone': this.story.alone.filter(({ e }) => e === 'alone').length,
    };
  }

  /** Every change has a higher generation, also over an emptied Redis. */
  private checkGenerations(): void {
    let last = 0;
    for (const { generation, state } of this.story.records) {
      if (generation <= last)
        this.violate(`the circuit became ${state} under ${generation}, after ${last}`);
      last = generation;
    }
  }

  /** While it is not closed calls pass as probes only: one for each time that it was half-open. */
  private checkPasses({ from, to, probes }: Opening): void {
    const free = new Set(probes);
    for (const call of this.calls) {
      const { made } = call;
      const start = call.runs[0]?.start;
      if (made.t < from.t + NEWS_MS || made.t > to) continue;
      // What it is to look for is not known: Redis, or this caller, was disturbed.
      const until = start?.t ?? made.t;
      if (!this.isQuiet(from.t, until) || !this.isFit(made.who, made.t, until)) continue;
      this.checkedPasses += 1;
      if (start === undefined || start.t > to - LOOK_SLACK_MS) continue;
      const probe = [...free].find(
        ({ t, prober }) =>
          t >= made.t - LOOK_SLACK_MS &&
          t <= start.t + LOOK_SLACK_MS &&
          this.story.processOf(prober ?? '')?.who === made.who,
      );
      if (probe === undefined)
        this.violate('ran while the circuit was open, and was no probe', call);
      else free.delete(probe);
    }
  }

  /** One probe at a time: another one takes over from who died or froze, and when its lease is over. */
  private checkProbers(): void {
    for (const [index, record] of this.story.records.entries()) {
      const next = this.story.records[index + 1];
      if (record.state !== 'half-open' || next?.state !== 'half-open') continue;
      if (!this.isQuiet(record.t, next.t)) continue;
      const afterMs = next.t - record.t;
      const prober = this.story.processOf(record.prober ?? '');
      const isGone =
        (prober?.exitedAt ?? Infinity) < next.t ||
        this.story.faults.wasFrozen(prober?.who ?? '', record.t, next.t);
      if (isGone && afterMs > STORM.leaseMs - LOOK_SLACK_MS) continue;
      this.violate(
        `a second probe began ${Math.round(afterMs)} ms after one of ${prober?.who ?? record.prober}`,
      );
    }
  }

  /** Who is refused is refused at once, with reason, and told when to try again. */
  private checkRefusal(call: Call): void {
    const { made, settled } = call;
    const end = settled[0];
    if (end?.code !== 'CIRCUIT_OPEN') return;
    const longest = Math.max(CIRCUIT.openMs, STORM.leaseMs) + NEWS_MS;
    if (!((end.retryAfterMs ?? -1) >= 0 && (end.retryAfterMs ?? 0) <= longest))
      this.violate(`was refused, to try again in ${end.retryAfterMs} ms`, call);
    const record = this.recordAt(made.t);
    if (call.runs.length > 0) this.violate('was refused and ran', call);
    if (!this.isFit(made.who, made.t, end.t) || !this.isQuiet(made.t, end.t)) return;
    if (end.t - made.t > REFUSED_WITHIN_MS)
      this.violate(`was refused after ${Math.round(end.t - made.t)} ms`, call);
    if (record === undefined || !this.isQuiet(record.t, end.t)) return;
    this.checkedRefusals += 1;
    // It was changed while the call was under way: another one has just become the probe, say.
    if (this.recordAt(end.t + LOOK_SLACK_MS) !== record) return;
    if (record.state === 'closed' && made.t - record.t > NEWS_MS)
      this.violate(
        `was refused ${Math.round(made.t - record.t)} ms after the circuit was closed`,
        call,
      );
    if (record.state === 'open' && (record.retryAt ?? Infinity) < this.wall(made.t) - NEWS_MS)
      this.violate(
        `was refused ${Math.round(this.wall(made.t) - (record.retryAt ?? 0))} ms after the time to try again`,
        call,
      );
    if (record.state === 'half-open') this.checkProbe(record, call);
  }

  /** A probe ends with its call, or within a lease of its caller's death. */
  private checkProbe(record: Change, call: Call): void {
    const { made } = call;
    const diedAt = this.story.processOf(record.prober ?? '')?.exitedAt ?? Infinity;
    const latest = Math.min(
      record.t + PROBE_MS + STORM.leaseMs,
      Math.max(diedAt, record.t) + STORM.leaseMs + NEWS_MS,
    );
    if (made.t > latest)
      this.violate(
        `was refused ${Math.round(made.t - record.t)} ms after a probe began` +
          (diedAt === Infinity ? '' : `, and ${Math.round(made.t - diedAt)} ms after its end`),
        call,
      );
  }

  /** While nothing else is wrong it opens soon when the function fails, and closes soon when it works again. */
  private checkTimes(brokenAt: number, mendedAt: number): void {
    const { story } = this;
    const opensBy = brokenAt + OPENS_WITHIN_MS;
    if (story.faults.isClean(brokenAt, opensBy) && this.areCalling(brokenAt, opensBy)) {
      const isOpened = this.openings.some(({ from, to }) => from.t < opensBy && to > brokenAt);
      if (!isOpened) this.violate(`it did not open within ${OPENS_WITHIN_MS} ms of ${brokenAt}`);
    }
    const closesBy = mendedAt + CLOSES_WITHIN_MS;
    if (story.faults.isClean(mendedAt, closesBy) && this.areCalling(mendedAt, closesBy)) {
      const open = this.openings.find(({ from, to }) => from.t < mendedAt && to > closesBy);
      if (open !== undefined && this.isQuiet(open.from.t, closesBy))
        this.violate(`it was still open ${CLOSES_WITHIN_MS} ms after ${mendedAt}`);
    }
  }

  /** Nothing happened to Redis, or to a connection to it. */
  private isQuiet(from: number, to: number): boolean {
    return !this.story.faults.overlaps(from, to, SHAKES);
  }

  /** The caller was not frozen, and has not decided by itself. */
  private isFit(who: string, from: number, to: number): boolean {
    if (this.story.faults.wasFrozen(who, from, to)) return false;
    let isAlone = false;
    for (const { e, who: caller, t } of this.story.alone) {
      if (caller !== who || t > to) continue;
      isAlone = e === 'alone';
      if (t >= from) return false;
    }
    return !isAlone;
  }

  private areCalling(from: number, to: number): boolean {
    const calls = this.calls.filter(({ made }) => made.t > from && made.t < to);
    return calls.length >= 2 * CIRCUIT.minimumCalls;
  }

  private recordAt(t: number): Change | undefined {
    return this.story.records.findLast((record) => record.t <= t);
  }

  private wall(t: number): number {
    return t + this.story.wallOffsetMs;
  }

  private violate(what: string, call?: Call): void {
    const { story } = this;
    if (call === undefined) return void this.violations.push(`circuit: ${what}`);
    const { t } = call.made;
    const records = story.records
      .filter((record) => record.t > t - 4_000 && record.t < t + 2_000)
      .map((record) => `${record.state} +${(record.t - t).toFixed(0)}`);
    this.violations.push(`${tell(story, call, what)}\n  records: ${records.join(', ')}`);
  }
}
