import { tell } from './call-rules.js';
import type { Saved } from './history.js';
import { STORM } from './plan.js';
import { AFTERMATH_MS, EMPTIES } from './faults.js';
import type { Call, Of, Story } from './story.js';

/** Each process may be waited for before its order, for its leaving, and for its return. */
const RESTART_LIMIT_MS = STORM.workers * 3 * STORM.restartTimeoutMs + 5_000;
const CLEAN_RESTART_MS = 20_000;
/** How long the news of a save may take while nothing is wrong. */
/** Redis is not there, or cannot be reached. */
const OUTAGE = /^(redis-|proxy-)/;
const NEWS_MS = 1_000;

/** What a restart may end with when it is disturbed. */
const RESTART_ERRORS =
  /^(RESTART_(IN_PROGRESS|FAILED|REFUSED)|BACKEND_(UNAVAILABLE|REFUSED)|CLOSED)$/;

/** What is promised of the workflow `flow`: its saves, its generations and its restarts. */
export class WorkflowRules {
  private readonly violations: string[] = [];
  private readonly calls: Call[];
  private cleanRestarts = 0;
  private wholeGroups = 0;
  private awaitedNews = 0;

  constructor(private readonly story: Story) {
    const kinds = new Set(['flow', 'flow-now', 'bound']);
    this.calls = [...story.calls.values()].filter(({ made }) => kinds.has(made.kind));
  }

  check(): readonly string[] {
    this.checkGroups();
    this.checkVersions();
    this.checkHeard();
    this.checkRestarts();
    for (const call of this.calls) {
      this.checkGone(call);
      this.checkServed(call);
      this.checkLoaded(call);
    }
    return this.violations;
  }

  figures(): Record<string, number> {
    const { saves, restarts, groups } = this.story;
    const ends = restarts.filter(({ e }) => e === 'restarted');
    const codes: Record<string, number> = {};
    for (const { code } of ends) if (code !== undefined) codes[code] = (codes[code] ?? 0) + 1;
    return {
      saves: saves.length,
      restarts: restarts.length - ends.length,
      'restarts done': ends.filter(({ code }) => code === undefined).length,
      'restarts while nothing was wrong': this.cleanRestarts,
      'news of saves awaited': this.awaitedNews,
      groups: groups.length,
      'groups of several answers': this.wholeGroups,
      'generations seen': new Set(groups.map(({ generation }) => generation)).size,
      ...codes,
    };
  }

  /** All that a group sees is of the save that it is bound to; one that moves on moves forward. */
  private checkGroups(): void {
    for (const group of this.story.groups) {
      let last = group.generation;
      if (group.answers.length > 1) this.wholeGroups += 1;
      for (const { bound, generation } of group.answers) {
        const where = `a group of ${group.who} at ${group.t.toFixed(0)}`;
        if (generation !== bound)
          this.violate(`${where} is bound to ${bound} and was answered by ${generation}`);
        if (!group.movesOn && bound !== group.generation)
          this.violate(`${where} was bound to ${group.generation}, and then to ${bound}`);
        if (bound < last) this.violate(`${where} went back from ${last} to ${bound}`);
        last = bound;
      }
    }
  }

  /** A generation is one content: that of its save, or none where Redis has forgotten it. */
  private checkVersions(): void {
    const versions = new Map<number, number>();
    for (const { generation, version } of this.story.saves) versions.set(generation, version);
    for (const { made, settled } of this.calls) {
      const { generation, version = null, t = made.t } = settled[0] ?? {};
      if (generation === undefined) continue;
      if (generation === -1) this.violate(`${made.fn} ran before its worker had loaded anything`);
      if (version === null) {
        if (this.hasForgotten(generation, t) || !versions.has(generation)) continue;
        this.violate(`generation ${generation} was seen without what its save said`);
        continue;
      }
      // The saver may have died before it could write its save down.
      const known = versions.get(generation) ?? version;
      versions.set(generation, known);
      if (known !== version)
        this.violate(`generation ${generation} was seen as version ${version}, and as ${known}`);
    }
  }

  /** Redis was emptied after this save, which is of that time on Redis's clock, and before `t`. */
  private hasForgotten(generation: number, t: number): boolean {
    return this.story.faults.overlaps(generation - this.story.wallOffsetMs, t, EMPTIES);
  }

  /** A process hears of saves in their order, each once; of every one, as soon as nothing is wrong any more. */
  private checkHeard(): void {
    const { story } = this;
    const last = new Map<string, number>();
    for (const { who, generation } of story.heard) {
      if (generation <= (last.get(who) ?? 0))
        this.violate(`${who} heard of the save ${generation} after ${last.get(who)}`);
      last.set(who, generation);
    }
    for (const { t, generation } of story.saves) {
      const by = story.faults.cleanFrom(t) + NEWS_MS;
      if (!story.faults.isClean(by - NEWS_MS, by) || story.faults.overlaps(t, by, EMPTIES))
        continue;
      for (const { who, bootedAt, stoppingAt, exitedAt } of story.lives.values()) {
        const endedAt = Math.min(stoppingAt ?? Infinity, exitedAt ?? Infinity);
        if (!who.startsWith('caller-') || bootedAt > t || endedAt < by) continue;
        // It came up without Redis, and had not subscribed before the save.
        if (story.faults.spans(bootedAt, t, OUTAGE)) continue;
        this.awaitedNews += 1;
        const isHeard = story.heard.some(
          (one) => one.who === who && one.generation >= generation && one.t < by,
        );
        if (!isHeard) this.violate(`${who} did not hear of the save ${generation}`);
      }
    }
  }

  /** A restart ends, unless its leader was killed: done, or with an error that says so; done when nothing is wrong. */
  private checkRestarts(): void {
    const { story } = this;
    const steps = story.restarts;
    for (const begun of steps.filter(({ e }) => e === 'restart')) {
      const end = steps.find(
        ({ e, id, who }) => e === 'restarted' && id === begun.id && who === begun.who,
      );
      const name = `the restart ${begun.id}, led by ${begun.who},`;
      if (end === undefined) {
        if (!story.wasKilled(begun.who)) this.violate(`${name} never ended`);
        continue;
      }
      const tookMs = end.t - begun.t;
      const late = tookMs - RESTART_LIMIT_MS - story.faults.standstill(begun.t, end.t);
      if (late > 0) this.violate(`${name} took ${Math.round(tookMs)} ms`);
      if (end.code !== undefined && !RESTART_ERRORS.test(end.code))
        this.violate(`${name} failed with ${end.code}`);
      if (!story.faults.isClean(begun.t, end.t) || end.code === 'RESTART_IN_PROGRESS') continue;
      if (end.code === 'CLOSED') continue;
      this.cleanRestarts += 1;
      if (end.code !== undefined && !this.lackedWorkers(begun.t, end.t, end.code))
        this.violate(`${name} failed with ${end.code} while nothing was wrong`);
      if (tookMs > CLEAN_RESTART_MS)
        this.violate(`${name} took ${Math.round(tookMs)} ms while nothing was wrong`);
    }
  }

  /**
   * It waits for as many workers as there were, and a process may take long to boot again; it is refused when only one
   * process has a function just then.
   */
  private lackedWorkers(from: number, to: number, code: string): boolean {
    const { faults } = this.story;
    if (code === 'RESTART_REFUSED') return faults.away(from, from + 1) > 0;
    return code === 'RESTART_FAILED' && faults.away(from, to) > STORM.restartTimeoutMs / 2;
  }

  /** A bound call whose generation is gone was not run: not to its end, and not at all while no worker was lost. */
  private checkGone(call: Call): void {
    const end = call.settled[0];
    if (end?.code !== 'GENERATION_GONE') return;
    if (call.runs.length > 0 && this.story.faults.isClean(call.made.t, end.t))
      this.violate(tell(this.story, call, 'its generation was gone, and it ran'));
  }

  /** No function is without a worker because of a restart alone. */
  private checkServed(call: Call): void {
    const { made, settled } = call;
    const code = settled[0]?.code;
    if (made.kind !== 'flow-now' || code === undefined || code === 'CLOSED') return;
    if (this.story.faults.isClean(made.t, settled[0]?.t ?? made.t))
      this.violate(tell(this.story, call, `failed with ${code} while nothing was wrong`));
  }

  /** After a restart of all that nothing disturbed nobody has anything older than the save before it. */
  private checkLoaded(call: Call): void {
    const end = call.settled[0];
    if (end?.generation === undefined || call.made.kind === 'bound') return;
    const save = this.restartedAt(call.made.t);
    if (save === undefined || !this.story.faults.isClean(save.t - AFTERMATH_MS, end.t)) return;
    if (end.generation < save.generation)
      this.violate(
        tell(this.story, call, `ran on ${end.generation} after a restart to ${save.generation}`),
      );
  }

  /** The last save before a restart that was done by then. */
  private restartedAt(t: number): Of<Saved> | undefined {
    const done = this.story.restarts.findLast(
      (step) => step.e === 'restarted' && step.code === undefined && step.t < t,
    );
    const begun = this.story.restarts.find(
      ({ e, id, who }) => e === 'restart' && id === done?.id && who === done.who,
    );
    return this.story.saves.findLast((save) => save.t <= (begun?.t ?? -1));
  }

  private violate(what: string): void {
    this.violations.push(what.includes('\n') ? what : `workflow: ${what}`);
  }
}
