import type { CallOptions } from '../../src/index.js';
import type { Random } from '../harness/random.js';
import { monotonicMs } from './history.js';

/** Long enough to outlast every fault of the plan: such a call has to succeed. */
export const PATIENT_MS = 40_000;
/** Calls of this long share an idempotency key, whichever process makes them. */
const KEY_PERIOD_MS = 900;

/** A call that is going to be made. */
export interface CallPlan {
  readonly kind: string;
  readonly fn: string;
  readonly ms: number;
  readonly fails?: number;
  readonly options?: CallOptions;
  /** It may end with an error that a fault, or its own haste, explains. */
  readonly impatient?: boolean;
  /** Cancels after so long. */
  readonly cancelMs?: number;
}

/** What a caller draws its calls from. @param bells how many functions there are that are told of by a bell */
export function kindsOf(random: Random, bells: number): readonly (() => CallPlan)[] {
  const bell = (): CallPlan => ({
    kind: 'bell',
    fn: `bell-${random.below(bells)}`,
    ms: random.below(80),
  });
  const plain = (): CallPlan => ({ kind: 'plain', fn: 'work', ms: random.below(30) });
  return [
    plain,
    plain,
    () => ({ kind: 'slow', fn: 'work', ms: 200 + random.below(1_500) }),
    () => ({
      kind: 'once',
      fn: 'work',
      ms: random.below(400),
      options: { delivery: 'at-most-once' },
    }),
    () => ({
      kind: 'hasty',
      fn: 'work',
      ms: random.below(200),
      options: { timeoutMs: 20 + random.below(250) },
      impatient: true,
    }),
    () => ({
      kind: 'stubborn',
      fn: 'stubborn',
      ms: random.below(500),
      options: { timeoutMs: 50 + random.below(400) },
      impatient: true,
    }),
    () => ({
      kind: 'cancelled',
      fn: 'work',
      ms: random.below(300),
      cancelMs: random.below(120),
      impatient: true,
    }),
    () => ({ kind: 'flaky', fn: 'flaky', ms: random.below(20), fails: random.below(4) }),
    () => ({ kind: 'chatty', fn: 'chatty', ms: random.below(60) }),
    () => ({
      kind: 'keyed',
      fn: 'work',
      ms: random.below(250),
      options: { idempotencyKey: `k-${Math.floor(monotonicMs() / KEY_PERIOD_MS)}` },
    }),
    bell,
    bell,
    () => ({
      kind: 'unwaiting',
      fn: 'work',
      ms: 5,
      options: { ifUnavailable: 'fail' },
      impatient: true,
    }),
  ];
}

/** Calls of the function that fails for some of the time, and has a circuit. */
export function fusedCall(random: Random): CallPlan {
  return {
    kind: 'fused',
    fn: 'fused',
    ms: random.below(30),
    options: { timeoutMs: 400, readinessTimeoutMs: 2_000 },
    impatient: true,
  };
}

/** Calls of the workflow that are bound to nothing; those that do not wait find out whether a worker is there at all. */
export function flowKindsOf(random: Random): readonly (() => CallPlan)[] {
  const fn = (): string => random.pick(['plan', 'render']);
  return [
    () => ({ kind: 'flow', fn: fn(), ms: random.below(150), options: { workflowId: 'flow' } }),
    () => ({
      kind: 'flow-now',
      fn: fn(),
      ms: 5,
      options: { workflowId: 'flow', ifUnavailable: 'fail' },
      impatient: true,
    }),
  ];
}
