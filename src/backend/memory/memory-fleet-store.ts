import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type {
  DeathEvidence,
  FleetStore,
  FleetView,
  HostedWorker,
  Office,
  OfficeLeases,
} from '../fleet-store.js';
import { GRAVE_MS } from '../limits.js';
import type { MemoryConnection } from './memory-connection.js';
import type { MemorySpace } from './memory-space.js';
import type { Sessions } from './sessions.js';

/** Functions with delayed calls that one look tells of. */
const DUE_PER_LOOK = 100;

/** The fleet in the memory of this process: presence is a subscription, an office a lease. */
export class MemoryFleetStore implements FleetStore {
  constructor(
    private readonly connection: MemoryConnection,
    private readonly keys: Keys,
  ) {}

  elect(sessionId: string, { supervisorMs, deputyMs }: OfficeLeases): Promise<Office> {
    return this.connection.run(({ sessions }) => {
      const { offices, states } = sessions;
      const supervisor = offices.get('supervisor');
      // A supervisor whose presence is missing is dead, and is not waited for.
      const isDead =
        supervisor !== undefined &&
        states.get(supervisor) === 'present' &&
        !this.isPresent(supervisor);
      if (supervisor === undefined || supervisor === sessionId || isDead) {
        offices.set('supervisor', sessionId, supervisorMs);
        if (offices.get('deputy') === sessionId) offices.delete('deputy');
        return 'supervisor';
      }
      const deputy = offices.get('deputy');
      if (deputy !== undefined && deputy !== sessionId) return 'none';
      offices.set('deputy', sessionId, deputyMs);
      return 'deputy';
    });
  }

  areHeld(): Promise<boolean> {
    return this.connection.run(
      ({ sessions: { offices } }) => offices.has('supervisor') && offices.has('deputy'),
    );
  }

  keepDeputy(sessionId: string, leaseMs: number): Promise<boolean> {
    return this.connection.run(
      ({ sessions: { offices } }) =>
        offices.get('deputy') === sessionId && offices.touch('deputy', leaseMs),
    );
  }

  resign(sessionId: string): Promise<void> {
    return this.connection.run(({ sessions: { offices } }) => {
      for (const office of ['supervisor', 'deputy'])
        if (offices.get(office) === sessionId) offices.delete(office);
    });
  }

  look(
    sessionId: string,
    leaseMs: number,
    withLeases: boolean,
    settled: boolean,
  ): Promise<FleetView | undefined> {
    return this.connection.run((space) => {
      const { offices, states, leases } = space.sessions;
      if (offices.get('supervisor') !== sessionId) return undefined;
      offices.touch('supervisor', leaseMs);
      this.tellDeputy(space.sessions, settled);
      const all = [...states.keys()];
      return {
        timestamp: space.now(),
        sessions: all.length,
        absent: all.filter((session) => {
          const state = states.get(session);
          // A session that said that it has no presence is judged by its lease alone.
          return state === 'condemned' || (state === 'present' && !this.isPresent(session));
        }),
        lapsed: withLeases ? all.filter((session) => !leases.has(session)) : [],
        due: dueFunctions(space, space.delayed),
        unclaimed: withLeases ? dueFunctions(space, space.unclaimed) : [],
        // Nobody else writes here.
        broken: [],
      };
    });
  }

  isReading(sessionId: string): Promise<boolean | undefined> {
    return this.connection.run(() => this.connection.server.isReading(sessionId));
  }

  condemn(sessionId: string, evidence: DeathEvidence): Promise<HostedWorker[] | undefined> {
    return this.connection.run(({ sessions }) => {
      const state = sessions.states.get(sessionId);
      // One that is condemned was so by a supervisor that did not get to the end of it.
      if (state !== 'condemned') {
        const lives =
          evidence === 'presence'
            ? state !== 'present' || this.isPresent(sessionId)
            : sessions.leases.has(sessionId);
        if (lives) return undefined;
      }
      sessions.leases.delete(sessionId);
      // From here on its heartbeat tells the session that it is lost, whatever comes of its lease.
      if (state !== undefined) sessions.states.set(sessionId, 'condemned');
      return sessions.hostedBy(sessionId);
    });
  }

  bury(sessionId: string): Promise<void> {
    return this.connection.run(({ sessions }) => {
      sessions.forget(sessionId);
      sessions.graves.set(sessionId, true, GRAVE_MS);
    });
  }

  /** One that does not hear of the look, although it has a presence, has died: its office is free. */
  private tellDeputy({ offices, states }: Sessions, settled: boolean): void {
    const deputy = offices.get('deputy');
    if (deputy === undefined) return;
    const data = { type: 'looked', sessions: states.size, ...(settled ? { settled } : {}) };
    const packet = JSON.stringify({ pattern: 'control', data });
    const heard = this.connection.server.pubsub.publish(this.keys.control(deputy), packet);
    if (heard === 0 && states.get(deputy) !== 'absent') offices.delete('deputy');
  }

  private isPresent(sessionId: string): boolean {
    return this.connection.server.pubsub.hasSubscriber(this.keys.control(sessionId));
  }
}

function dueFunctions(
  space: MemorySpace,
  dueTimes: ReadonlyMap<string, number>,
): readonly FunctionRef[] {
  const now = space.now();
  return [...dueTimes]
    .filter(([, dueAt]) => dueAt <= now)
    .sort(([, one], [, other]) => one - other)
    .slice(0, DUE_PER_LOOK)
    .flatMap(([id]) => space.byId(id)?.ref ?? []);
}
