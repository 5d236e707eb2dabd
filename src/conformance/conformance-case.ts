import type { Backend } from '../backend/backend.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { Keys } from '../protocol/keys.js';

/** The backend that is held to the contract. */
export interface BackendUnderTest {
  /**
   * Makes the backend of one more process; all of them work on the same data, divided by `keys.prefix`. It is
   * started, and closed, by the case.
   */
  create(keys: Keys): Backend | Promise<Backend>;
  /** Loses everything that is stored under a prefix, as an emptied Redis does. Without it such cases are left out. */
  forget?(keys: Keys): Promise<void>;
  /** Destroys the consumer group of a function. Without it such cases are left out. */
  destroyGroup?(keys: Keys, ref: FunctionRef): Promise<void>;
  /**
   * Puts something else in the place of a function's calls, as somebody who takes their key for theirs does; what it
   * resolves to takes it away again. Without it, or where nobody can do that, such cases are left out.
   */
  spoil?(keys: Keys, ref: FunctionRef): Promise<() => Promise<void>>;
}

/** What can be taken away from a backend on purpose. */
export type Fault = 'forget' | 'destroyGroup' | 'spoil';

/** A promise of docs/guarantees.md that a case belongs to. */
export type GuaranteedPromise =
  | 'Ready is an acknowledgement'
  | 'No missed wake-up'
  | 'Every call settles exactly once at its caller'
  | 'Nobody there is its own answer'
  | 'At least once, fenced'
  | 'Process death is seen in milliseconds, freezes in seconds'
  | 'Alive workers keep their calls'
  | 'No call starts after its deadline'
  | 'Drain'
  | 'Redis may go away'
  | 'Pub/sub may fail'
  | 'Bounded'
  | 'Bad input is refused before anything is sent'
  | 'One circuit for the fleet';

/** One thing that a backend has to do. */
export interface ConformanceCase {
  /** A sentence about what is held, unique among all cases. */
  readonly name: string;
  readonly promise: GuaranteedPromise;
  /** `port`: spoken to through its ports. `application`: by applications of this library that stand on it. */
  readonly level: 'port' | 'application';
  readonly needs: Fault | undefined;
  /**
   * Rejects when the backend does otherwise, within 30 seconds: with an `AssertionError` of node:assert, or with an error
   * that the backend, or an application on it, ended with. It leaves
   * nothing open, and what it stored lies under key prefixes that begin with `conformance-`.
   */
  run(backend: BackendUnderTest): Promise<void>;
}
