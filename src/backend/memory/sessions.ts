import type { Clock } from '../../common/clock.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { HostedWorker } from '../fleet-store.js';
import { AwakeClock } from './awake-clock.js';
import { ExpiringMap } from './expiring-map.js';

/** What is known of a session's presence, or that it was declared dead. */
export type SessionState = 'present' | 'absent' | 'condemned';

/** The processes of a fleet: who joined, who lives, what they host, and who watches over them. */
export class Sessions {
  readonly states = new Map<string, SessionState>();
  readonly leases: ExpiringMap<true>;
  readonly graves: ExpiringMap<true>;
  /** Who holds the offices `supervisor` and `deputy`. */
  readonly offices: ExpiringMap<string>;
  private readonly hosted = new Map<string, Map<string, HostedWorker>>();

  constructor(clock: Clock) {
    const awake = new AwakeClock(clock);
    this.leases = new ExpiringMap(awake);
    this.offices = new ExpiringMap(awake);
    this.graves = new ExpiringMap(clock);
  }

  hostedBy(sessionId: string): HostedWorker[] {
    return [...(this.hosted.get(sessionId)?.values() ?? [])];
  }

  host(sessionId: string, ref: FunctionRef, workerId: string): void {
    let workers = this.hosted.get(sessionId);
    if (workers === undefined)
      this.hosted.set(sessionId, (workers = new Map<string, HostedWorker>()));
    workers.set(`${ref.id} ${workerId}`, { ref, workerId });
  }

  /**
   * Notes that a worker left. The function stays among what its session hosts: calls of it may still be pending for
   * that session.
   */
  unhost(sessionId: string, ref: FunctionRef, workerId: string): void {
    if (this.hosted.get(sessionId)?.delete(`${ref.id} ${workerId}`) === true)
      this.host(sessionId, ref, '');
  }

  forget(sessionId: string): void {
    this.states.delete(sessionId);
    this.leases.delete(sessionId);
    this.hosted.delete(sessionId);
  }
}
