import type { Clock } from '../../common/clock.js';
import { callIsolated, type Dispose } from '../../common/typed-events.js';
import type { Keys } from '../../protocol/keys.js';
import type { Backend } from '../backend.js';
import { MemoryCallStreams } from './memory-call-streams.js';
import { MemoryCircuitStore } from './memory-circuit-store.js';
import { MemoryConnection } from './memory-connection.js';
import { MemoryDeadLetterStore } from './memory-dead-letter-store.js';
import { MemoryFleetStore } from './memory-fleet-store.js';
import { MemoryNotificationBus } from './memory-notification-bus.js';
import type { MemoryServer } from './memory-server.js';
import { MemoryWorkerStore } from './memory-worker-store.js';

/**
 * The backend inside one process, without Redis: all backends of one name share a server, which is there from the
 * first command of the first of them until the last of them is closed. What it cannot promise is listed in
 * docs/guarantees.md.
 */
export class MemoryBackend implements Backend {
  readonly bus: MemoryNotificationBus;
  readonly workers: MemoryWorkerStore;
  readonly fleet: MemoryFleetStore;
  readonly calls: MemoryCallStreams;
  readonly deadLetters: MemoryDeadLetterStore;
  readonly circuits: MemoryCircuitStore;
  private readonly connection: MemoryConnection;
  private readonly listeners = new Set<() => void>();
  private state: 'idle' | 'starting' | 'connected' | 'closed' = 'idle';

  /** @param name the part of `memory://name` behind the slashes, `''` included */
  constructor(name: string, keys: Keys, clock: Clock) {
    this.connection = new MemoryConnection(name, keys.prefix, clock);
    this.bus = new MemoryNotificationBus(this.connection);
    this.workers = new MemoryWorkerStore(this.connection, keys);
    this.fleet = new MemoryFleetStore(this.connection, keys);
    this.calls = new MemoryCallStreams(this.connection, keys);
    this.deadLetters = new MemoryDeadLetterStore(this.connection);
    this.circuits = new MemoryCircuitStore(this.connection, keys);
  }

  get address(): string {
    return this.connection.address;
  }

  /** The server, for tests that look at it or take something away from it. */
  get server(): MemoryServer {
    return this.connection.server;
  }

  /** As over a network the connection is told later: whoever starts with it can listen first. */
  start(): void {
    if (this.state !== 'idle') return;
    this.state = 'starting';
    this.connection.server.answers.add(() => this.handleConnected());
  }

  isConnected(): boolean {
    return this.state === 'connected';
  }

  onConnected(listener: () => void): Dispose {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  ping(): Promise<void> {
    return this.connection.run(() => undefined);
  }

  async close(): Promise<void> {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.listeners.clear();
    this.bus.close();
    await this.calls.close();
    this.connection.close(this.bus);
  }

  private handleConnected(): void {
    if (this.state !== 'starting') return;
    this.state = 'connected';
    this.bus.open();
    for (const listener of [...this.listeners]) callIsolated(listener, () => undefined);
  }
}
