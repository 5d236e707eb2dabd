import type { Dispose } from '../common/typed-events.js';
import type { CallStreams } from './call-streams.js';
import type { CircuitStore } from './circuit-store.js';
import type { DeadLetterStore } from './dead-letter-store.js';
import type { FleetStore } from './fleet-store.js';
import type { NotificationBus } from './notification-bus.js';
import type { WorkerStore } from './worker-store.js';

/** What the rest of the library needs of Redis, in six ports. */
export interface Backend {
  readonly bus: NotificationBus;
  readonly workers: WorkerStore;
  readonly fleet: FleetStore;
  readonly calls: CallStreams;
  readonly deadLetters: DeadLetterStore;
  readonly circuits: CircuitStore;
  /** The server's address, without secrets. */
  readonly address: string;
  /** Whether commands can be sent now. */
  isConnected(): boolean;
  /** Called each time commands can be sent (again). */
  onConnected(listener: () => void): Dispose;
  /** A round trip. */
  ping(): Promise<void>;
  /** Starts to connect; does not wait for it. */
  start(): void;
  /** Ends all connections. */
  close(): Promise<void>;
}
