import type { Count, Measured } from './history.js';
import { SHAKES } from './faults.js';
import { groupBy, type Call, type Life, type Of, type Run, type Story } from './story.js';

/** A report says when it counted on Redis's clock, as a heartbeat knows it; all processes have the same one here. */
const CLOCK_SLACK_MS = 150;
/** Whoever begins to listen hears everybody within 250 ms, and each second from then on. */
const HEARD_WITHIN_MS = 3_500;
const LISTEN_LIMIT_MS = 6_000;
const VIEW_GAP_MS = 3_000;
const SILENCE_MS = 8_000;

interface Counted {
  readonly calls: readonly Call[];
  readonly runs: readonly Run[];
}

/** What is promised of metrics, by what listeners were told and what a scrape brought. */
export class MetricsRules {
  private readonly violations: string[] = [];
  /** What each process did of each function. */
  private readonly done = new Map<string, Counted>();
  private compared = 0;
  private exact = 0;
  private views = 0;

  constructor(private readonly story: Story) {
    const calls = groupBy(story.calls.values(), ({ made }) => `${made.who} ${made.fn}`);
    const runs = groupBy(
      [...story.calls.values()].flatMap((call) =>
        call.runs.map((run) => ({ run, fn: call.made.fn })),
      ),
      ({ run, fn }) => `${run.start.who} ${fn}`,
    );
    for (const key of new Set([...calls.keys(), ...runs.keys()]))
      this.done.set(key, {
        calls: calls.get(key) ?? [],
        runs: (runs.get(key) ?? []).map(({ run }) => run),
      });
  }

  check(): readonly string[] {
    this.checkGrowth();
    for (const view of this.story.measured)
      for (const count of view.counts) this.checkCount(count, view.tookMs ?? 0);
    this.checkViews();
    this.checkListening();
    for (const { from, published } of this.story.silences) {
      if (published.length === 0 || this.story.faults.overlaps(from, from + SILENCE_MS, SHAKES))
        continue;
      const channels = [...new Set(published)].slice(0, 3).join(', ');
      this.violate(
        `${published.length} reports were published seconds after the last listener had gone at ${from.toFixed(0)}: ${channels}`,
      );
    }
    return this.violations;
  }

  figures(): Record<string, number> {
    const { measured, silences, listening } = this.story;
    const via = (how: Measured['via']): number =>
      measured.filter((view) => view.via === how).length;
    return {
      watches: listening.filter(({ e }) => e === 'listening').length,
      'views of a watch': via('watch'),
      snapshots: via('snapshot'),
      scrapes: via('scrape'),
      'counts compared': this.compared,
      'of them known exactly': this.exact,
      'views of everybody': this.views,
      silences: silences.length,
    };
  }

  /** What a process counts since one moment never shrinks. */
  private checkGrowth(): void {
    const last = new Map<string, Count>();
    const counts = this.story.measured.flatMap((view) => view.counts);
    for (const count of counts.toSorted((a, b) => a.at - b.at)) {
      const key = `${count.process} ${count.fn} ${count.since}`;
      const before = last.get(key);
      last.set(key, count);
      if (before === undefined || before.at === count.at) continue;
      if (count.calls < before.calls || count.runs < before.runs)
        this.violate(
          `${count.fn} of ${count.process} went from ${before.calls} calls and ${before.runs} runs to ${count.calls} and ${count.runs}`,
        );
    }
  }

  /** It is what the history has, but for what ended in the very moment. @param tookMs it may be so much older */
  private checkCount(count: Count, tookMs: number): void {
    const { story } = this;
    const life = story.processOf(count.process);
    if (life === undefined) return this.violate(`nobody knows the process ${count.process}`);
    const since = count.since === 0 ? -Infinity : count.since - story.wallOffsetMs;
    const at = count.at - story.wallOffsetMs;
    const { calls, runs } = this.done.get(`${life.who} ${count.fn}`) ?? { calls: [], runs: [] };
    const ended = (from: number, to: number): { calls: number; runs: number; sure: number } => ({
      calls: calls.filter(({ made, settled }) => made.t > from && (settled[0]?.t ?? Infinity) < to)
        .length,
      runs: runs.filter((run) => isWithin(run, from, to)).length,
      sure: runs.filter((run) => isWithin(run, from, to) && !isLost(run, life)).length,
    });
    const least = ended(since + CLOCK_SLACK_MS, at - tookMs - CLOCK_SLACK_MS);
    const most = ended(since - CLOCK_SLACK_MS, at + CLOCK_SLACK_MS);
    this.compared += 1;
    if (least.calls === most.calls && least.sure === most.runs) this.exact += 1;
    // A call whose group moved on was made once more, at some time before it was settled.
    const moves = calls.filter(({ made, settled }) => made.t < at && settled[0]?.moves).length;
    const isOff =
      count.calls < least.calls ||
      count.calls > most.calls + moves ||
      count.runs < least.sure ||
      count.runs > most.runs;
    if (isOff)
      this.violate(
        `${count.fn} of ${life.who} at ${at.toFixed(0)}, since ${since.toFixed(0)}: ${count.calls} calls and ${count.runs} runs were counted, ` +
          `and there were ${least.calls} to ${most.calls} and ${least.sure} to ${most.runs}`,
      );
  }

  /** While nothing is wrong a watch has everybody in view. */
  private checkViews(): void {
    const { story } = this;
    for (const view of story.measured) {
      if (view.via !== 'watch') continue;
      const from = view.t - HEARD_WITHIN_MS;
      const begun = story.listening.findLast(({ who, t }) => who === view.who && t < view.t);
      if (begun?.e !== 'listening' || begun.t > from || !story.faults.isClean(from, view.t))
        continue;
      this.views += 1;
      const seen = new Set(view.counts.map(({ process }) => story.processOf(process)?.who));
      for (const { who, bootedAt, stoppingAt, exitedAt } of story.lives.values()) {
        const endedAt = Math.min(stoppingAt ?? Infinity, exitedAt ?? Infinity);
        if (!/^(worker|caller)-/.test(who) || bootedAt > from || endedAt < view.t) continue;
        if (!seen.has(who)) this.violate(`${view.who} did not see ${who} at ${view.t.toFixed(0)}`);
      }
    }
  }

  /** A watch goes on each second whatever happens to Redis, and one that cannot begin says so. */
  private checkListening(): void {
    const { story } = this;
    for (const [who, steps] of groupBy(story.listening, (step) => step.who)) {
      const life = story.lives.get(who);
      const views = story.measured.filter((view) => view.via === 'watch' && view.who === who);
      for (const [index, step] of steps.entries()) {
        if (step.e === 'deaf') this.checkDeaf(step.code, step.t, who);
        else {
          const next = steps[index + 1]?.t ?? life?.stoppingAt ?? life?.lastSeenAt ?? step.t;
          this.checkGaps(who, step.t, next, views);
        }
      }
    }
  }

  private checkDeaf(code: string | undefined, t: number, who: string): void {
    if (code === undefined) return;
    const isExplained = code === 'BACKEND_UNAVAILABLE' && !this.story.faults.isClean(t - 1_000, t);
    if (!isExplained) this.violate(`${who} could not listen at ${t.toFixed(0)}: ${code}`);
  }

  private checkGaps(who: string, from: number, to: number, views: readonly Of<Measured>[]): void {
    const times = views.map(({ t }) => t).filter((t) => t > from && t <= to);
    let last = from;
    for (const t of [...times, to]) {
      const limit = last === from ? LISTEN_LIMIT_MS + VIEW_GAP_MS : VIEW_GAP_MS;
      if (t - last > limit)
        this.violate(`${who} was told nothing from ${last.toFixed(0)} to ${t.toFixed(0)}`);
      last = t;
    }
  }

  private violate(what: string): void {
    this.violations.push(`metrics: ${what}`);
  }
}

function isWithin({ start, end }: Run, from: number, to: number): boolean {
  return start.t > from && (end?.t ?? Infinity) < to;
}

/** A run of a session that was declared dead is nobody's any more, and is not counted. */
function isLost({ start, end }: Run, { lostAt }: Life): boolean {
  return lostAt.some((t) => t >= start.t && t <= (end?.t ?? Infinity));
}
