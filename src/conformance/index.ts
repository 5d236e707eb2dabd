import { applicationCases } from './application-cases.js';
import { boundCases } from './bound-cases.js';
import { callCases } from './call-cases.js';
import { circuitCases } from './circuit-cases.js';
import type { BackendUnderTest, ConformanceCase } from './conformance-case.js';
import { connectionCases } from './connection-cases.js';
import { fleetCases } from './fleet-cases.js';
import { handOverCases } from './hand-over-cases.js';
import { newsCases } from './news-cases.js';
import { poolCases } from './pool-cases.js';
import { registryCases } from './registry-cases.js';
import { retryCases } from './retry-cases.js';
import { sharedCases } from './shared-cases.js';

/** Everything that a backend has to do, as far as it can be shown without killing a process. */
export const conformanceCases: readonly ConformanceCase[] = [
  ...registryCases,
  ...newsCases,
  ...callCases,
  ...handOverCases,
  ...sharedCases,
  ...retryCases,
  ...fleetCases,
  ...connectionCases,
  ...poolCases,
  ...boundCases,
  ...circuitCases,
  ...applicationCases,
];

/**
 * The cases that a backend can be held to: all, or, where it cannot be made to forget, to lose a group, or to hold
 * what is not its own, those that need no such fault.
 *
 * @example
 * ```ts
 * const backend = { create: (keys: Keys) => new MyBackend(url, keys) };
 * for (const { name, run } of conformanceCasesFor(backend)) test(name, () => run(backend), 30_000);
 * ```
 */
export function conformanceCasesFor(backend: BackendUnderTest): readonly ConformanceCase[] {
  return conformanceCases.filter(
    ({ needs }) => needs === undefined || backend[needs] !== undefined,
  );
}

export type {
  BackendUnderTest,
  ConformanceCase,
  Fault,
  GuaranteedPromise,
} from './conformance-case.js';
export type { Backend } from '../backend/backend.js';
export type * from '../backend/call-streams.js';
export type * from '../backend/circuit-store.js';
export type { DeadLetterStore, RawDeadLetter } from '../backend/dead-letter-store.js';
export type * from '../backend/fleet-store.js';
export type { BusEvents, NotificationBus } from '../backend/notification-bus.js';
export type * from '../backend/worker-store.js';
export type { CustomBackend } from '../backend/create-backend.js';
export type { Clock, Timer } from '../common/clock.js';
export {
  CALL_FIELDS,
  encodeCall,
  parseCall,
  type AddressedReply,
  type CallEntry,
  type CallSubmission,
} from '../protocol/call.js';
export { Keys } from '../protocol/keys.js';
