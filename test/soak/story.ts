import type {
  CallMade,
  CallSettled,
  CircuitRecorded,
  FusePlan,
  GroupSeen,
  ListenStep,
  Measured,
  Recorded,
  RestartStep,
  RunStarted,
  Saved,
  SaveHeard,
  Silence,
} from './history.js';
import { Faults } from './faults.js';

/** What happened, when, and in which process. */
export type Of<E> = E & { readonly t: number; readonly who: string };

export interface Run {
  readonly start: Of<RunStarted>;
  end: { readonly t: number; readonly how: string } | undefined;
}

export interface Call {
  readonly made: Of<CallMade>;
  readonly settled: (CallSettled & { readonly t: number })[];
  readonly runs: Run[];
}

/** A process, from its boot to its end. */
export interface Life {
  readonly who: string;
  pid: number | undefined;
  bootedAt: number;
  stoppingAt: number | undefined;
  closed: { readonly t: number; readonly resources: readonly string[] } | undefined;
  exitedAt: number | undefined;
  /** When its sessions were lost. */
  readonly lostAt: number[];
  lastSeenAt: number;
}

/** A history, by what it is about. */
export class Story {
  /** What the history itself has wrong with it. */
  readonly oddities: string[] = [];
  readonly calls = new Map<string, Call>();
  readonly faults = new Faults();
  readonly lives = new Map<string, Life>();
  /** Calls that their caller wrote again: two entries of them may exist, each with an owner. */
  readonly writtenAgain = new Set<string>();
  readonly allWrittenAgainAt = new Map<string, number[]>();
  readonly fuses: FusePlan[] = [];
  readonly records: Of<CircuitRecorded>[] = [];
  readonly alone: Of<{ e: 'alone' | 'shared' }>[] = [];
  readonly saves: Of<Saved>[] = [];
  readonly heard: Of<SaveHeard>[] = [];
  readonly restarts: Of<RestartStep>[] = [];
  readonly groups: Of<GroupSeen>[] = [];
  readonly listening: Of<ListenStep>[] = [];
  readonly measured: Of<Measured>[] = [];
  readonly silences: Of<Silence>[] = [];
  runs = 0;
  /** This machine's wall clock minus the clock of the history. */
  wallOffsetMs = 0;
  private readonly byRun = new Map<string, Run>();

  constructor(history: readonly Recorded[]) {
    for (const event of history) {
      this.lifeOf(event.who, event.t).lastSeenAt = event.t;
      this.note(event);
    }
  }

  /** The process of a session, or process id, of the library; or of a name. */
  processOf(id: string): Life | undefined {
    const named = this.lives.get(id);
    if (named !== undefined) return named;
    const pid = Number(/-(\d+)-[0-9a-f]{8}(\.\d+)?$/.exec(id)?.[1]);
    return [...this.lives.values()].find((life) => life.pid === pid);
  }

  wasKilled(who: string): boolean {
    return this.lives.get(who)?.closed === undefined;
  }

  private note(event: Recorded): void {
    switch (event.e) {
      case 'call':
        this.calls.set(event.id, { made: event, settled: [], runs: [] });
        break;
      case 'settled':
        this.calls.get(event.id)?.settled.push(event);
        break;
      case 'start':
        this.noteRun(event);
        break;
      case 'end': {
        const run = this.byRun.get(event.run);
        if (run !== undefined) run.end = event;
        break;
      }
      case 'fault':
        this.faults.add(event);
        break;
      case 'log':
        this.noteLog(event.who, event.t, event.text);
        break;
      case 'booted':
      case 'lost':
      case 'stopping':
      case 'closed':
      case 'exited':
        this.noteLife(event);
        break;
      case 'fuse':
        this.fuses.push(event);
        break;
      case 'record':
        this.records.push(event);
        break;
      case 'alone':
      case 'shared':
        this.alone.push(event);
        break;
      case 'saved':
        this.saves.push(event);
        break;
      case 'heard':
        this.heard.push(event);
        break;
      case 'restart':
      case 'restarted':
        this.restarts.push(event);
        break;
      case 'group':
        this.groups.push(event);
        break;
      case 'listening':
      case 'deaf':
        this.listening.push(event);
        break;
      case 'measured':
        this.measured.push(event);
        break;
      case 'silence':
        this.silences.push(event);
        break;
    }
  }

  private noteRun(event: Of<RunStarted>): void {
    const run: Run = { start: event, end: undefined };
    this.runs += 1;
    this.byRun.set(event.run, run);
    const call = this.calls.get(event.id);
    if (call === undefined) this.oddities.push(`a run of ${event.id}, which nobody called`);
    else call.runs.push(run);
  }

  private noteLog(who: string, t: number, text: string): void {
    const one = /^(\S+) of \S+ is written again/.exec(text)?.[1];
    if (one !== undefined) this.writtenAgain.add(one);
    else if (text.includes('writing them again'))
      this.allWrittenAgainAt.set(who, [...(this.allWrittenAgainAt.get(who) ?? []), t]);
  }

  private noteLife(
    event: Recorded & { readonly e: 'booted' | 'lost' | 'stopping' | 'closed' | 'exited' },
  ): void {
    const { t } = event;
    if (event.e === 'exited') {
      this.lifeOf(event.process, t).exitedAt = t;
      return;
    }
    const life = this.lifeOf(event.who, t);
    if (event.e === 'booted') {
      life.bootedAt = t;
      life.pid = event.pid;
      if (event.wallMs !== undefined) this.wallOffsetMs = event.wallMs - t;
    } else if (event.e === 'lost') life.lostAt.push(t);
    else if (event.e === 'stopping') life.stoppingAt = t;
    else life.closed = { t, resources: event.resources ?? [] };
  }

  private lifeOf(who: string, t: number): Life {
    let life = this.lives.get(who);
    if (life === undefined) {
      life = {
        ...{ who, pid: undefined, bootedAt: t, stoppingAt: undefined, closed: undefined },
        ...{ exitedAt: undefined, lostAt: [], lastSeenAt: t },
      };
      this.lives.set(who, life);
    }
    return life;
  }
}

export function groupBy<T>(items: Iterable<T>, keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
