import { Random } from '../harness/random.js';

/** Everything that can happen to the fleet. */
export type FaultKind =
  | 'kill-worker'
  | 'kill-caller'
  | 'kill-supervisor'
  | 'restart-worker'
  | 'restart-caller'
  | 'freeze-worker-short'
  | 'freeze-worker-long'
  | 'freeze-caller'
  | 'redis-kill'
  | 'redis-freeze-short'
  | 'redis-freeze-long'
  | 'client-kill'
  | 'proxy-cut'
  | 'proxy-hold-short'
  | 'proxy-hold-long'
  | 'proxy-drop'
  | 'proxy-refuse'
  | 'flushall'
  | 'group-destroy'
  | 'health'
  | 'save-and-restart'
  | 'restart-workflow'
  | 'kill-leader'
  | 'freeze-leader'
  | 'kill-restarting'
  | 'kill-prober'
  | 'kill-listener'
  | 'silence'
  | 'settle';

/** One fault of a plan. What it meets is not known: a target that is gone already is passed over. */
export interface Fault {
  /** Milliseconds after the start of the storm. */
  readonly at: number;
  readonly kind: FaultKind;
  /** Which worker, caller, proxy, connection kind or function: an index. */
  readonly target: number;
  readonly durationMs: number;
}

/** The storm's measures. */
export const STORM = Object.freeze({
  leaseMs: 2_000,
  workers: 3,
  callers: 2,
  bells: 36,
  loops: 6,
  /** A phase of faults, and then one in which nothing but graceful restarts happens. */
  roughMs: 20_000,
  /** After a phase of faults their after-effects end: leases run out, sessions are joined anew. */
  settleMs: 8_000,
  calmMs: 10_000,
  /** Then one in which processes die, freeze and restart, and Redis is there all the time. */
  briskMs: 12_000,
  /** How long one process of the workflow may take to restart. */
  restartTimeoutMs: 6_000,
  /** How long a process takes to load the workflow anew. */
  loadMs: 100,
  /** How long a scrape is waited for. */
  scrapeTimeoutMs: 3_000,
  /** What the function `fused` does: it fails for so long out of so long. */
  fusePeriodMs: 11_000,
  fuseBrokenMs: 5_000,
});

/** Of the function `fused`. */
export const CIRCUIT = Object.freeze({
  failureRate: 0.5,
  minimumCalls: 10,
  windowMs: 2_500,
  openMs: 800,
});

/** What the faults of a rough phase are drawn from, the more often listed the more often. */
const ROUGH: readonly FaultKind[] = [
  'kill-worker',
  'kill-worker',
  'kill-caller',
  'kill-supervisor',
  'restart-worker',
  'restart-caller',
  'freeze-worker-short',
  'freeze-worker-long',
  'freeze-caller',
  'redis-kill',
  'redis-freeze-short',
  'redis-freeze-long',
  'client-kill',
  'client-kill',
  'client-kill',
  'proxy-cut',
  'proxy-cut',
  'proxy-hold-short',
  'proxy-hold-long',
  'proxy-drop',
  'proxy-refuse',
  'flushall',
  'group-destroy',
  'health',
  'save-and-restart',
  'restart-workflow',
  'kill-leader',
  'kill-restarting',
  'kill-prober',
  'kill-prober',
  'kill-listener',
];

/** What the faults of a brisk phase are drawn from: nothing that Redis would have to do with. */
const BRISK: readonly FaultKind[] = [
  'kill-worker',
  'kill-caller',
  'kill-supervisor',
  'restart-worker',
  'restart-caller',
  'freeze-worker-short',
  'freeze-worker-long',
  'freeze-caller',
  'save-and-restart',
  'restart-workflow',
  'kill-leader',
  'freeze-leader',
  'kill-restarting',
  'kill-prober',
  'kill-prober',
  'kill-prober',
  'kill-listener',
];

const DURATION: Readonly<Record<FaultKind, readonly [number, number]>> = {
  'kill-worker': [100, 1_500],
  'kill-caller': [100, 1_000],
  'kill-supervisor': [100, 1_000],
  'restart-worker': [0, 0],
  'restart-caller': [0, 0],
  'freeze-worker-short': [200, STORM.leaseMs / 2],
  'freeze-worker-long': [STORM.leaseMs + 800, STORM.leaseMs + 2_000],
  'freeze-caller': [200, STORM.leaseMs + 1_500],
  'redis-kill': [50, 2_000],
  'redis-freeze-short': [100, 1_200],
  'redis-freeze-long': [STORM.leaseMs + 500, STORM.leaseMs + 2_500],
  'client-kill': [0, 0],
  'proxy-cut': [0, 0],
  'proxy-hold-short': [200, STORM.leaseMs / 2],
  'proxy-hold-long': [STORM.leaseMs + 500, STORM.leaseMs + 2_500],
  'proxy-drop': [0, 0],
  'proxy-refuse': [100, 1_500],
  flushall: [0, 0],
  'group-destroy': [0, 0],
  health: [300, 1_500],
  'save-and-restart': [0, 0],
  'restart-workflow': [0, 0],
  'kill-leader': [50, 1_500],
  // Longer than its lead lasts.
  'freeze-leader': [6_500, 8_500],
  'kill-restarting': [50, 1_500],
  'kill-prober': [100, 1_000],
  'kill-listener': [100, 2_000],
  silence: [9_000, 9_000],
  settle: [0, 0],
};

/** The faults of a storm; from the seed alone. */
export function planOf(seed: number, totalMs: number): Fault[] {
  const random = new Random(seed);
  const faults: Fault[] = [];
  const add = (at: number, kind: FaultKind): void => {
    const [least, most] = DURATION[kind];
    const durationMs = least + random.below(most - least + 1);
    faults.push({ at: Math.round(at), kind, target: random.below(1_000), durationMs });
  };
  const roughly = dealer(random, ROUGH);
  const briskly = dealer(random, BRISK);
  let at = 3_000;
  for (let cycle = 0; at < totalMs; cycle += 1) {
    const roughUntil = Math.min(totalMs, at + STORM.roughMs);
    while (at < roughUntil) {
      add(at, roughly());
      // Some follow at once, most leave time to see what comes of the last one.
      at += random.below(4) === 0 ? random.below(150) : 300 + random.below(2_000);
    }
    // What is under way ends first.
    add(at, 'settle');
    at += STORM.settleMs;
    if (at + STORM.calmMs > totalMs) break;
    // Every second time nobody listens while nothing is wrong, and else somebody does.
    if (cycle % 2 === 0) add(at, 'silence');
    add(at, 'restart-worker');
    add(at + STORM.calmMs / 4, 'save-and-restart');
    add(at + STORM.calmMs / 2, 'restart-worker');
    at += STORM.calmMs;
    const briskUntil = Math.min(totalMs, at + STORM.briskMs);
    for (; at < briskUntil; at += 300 + random.below(2_400)) add(at, briskly());
  }
  return faults;
}

/** Draws from a deck of which every card has its turn before any comes again. */
function dealer(random: Random, cards: readonly FaultKind[]): () => FaultKind {
  let deck: FaultKind[] = [];
  return () => {
    if (deck.length === 0) deck = random.shuffle(cards);
    return deck.pop() as FaultKind;
  };
}
