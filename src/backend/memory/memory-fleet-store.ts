import type { Keys } from '../../protocol/keys.js';
import type { DeathEvidence, FleetStore, FleetView, HostedWorker, Office } from '../fleet-store.js';
import { GRAVE_MS } from '../limits.js';
import type { MemoryConnection } from './memory-connection.js';
import type { MemorySpace } from './memory-space.js';

/** Functions with delayed calls that one look tells of. */
const DUE_PER_LOOK = 100;

/** The fleet in the memory of this process: presence is a subscription, an office a lease. */
export class MemoryFleetStore implements FleetStore {
  constructor(
    private readonly connection: MemoryConnection,
    private readonly keys: Keys,
  ) {}

  elect(sessionId: string, leaseMs: number): Promise<Office> {
    return this.connection.run(({ sessions }) => {
      const { offices, states } = sessions;
      const supervisor = offices.get('supervisor');
      // A supervisor whose presence is missing is dead, and is not waited for.
      const isDead =
        supervisor !== undefined &&
        states.get(supervisor) === 'present' &&
        !this.isPresent(supervisor);
      if (supervisor === undefined || supervisor === sessionId || isDead) {
        offices.set('supervisor', sessionId, leaseMs);
        if (offices.get('deputy') === sessionId) offices.delete('deputy');
        return 'supervisor';
      }
      const deputy = offices.get('deputy');
      if (deputy !== undefined && deputy !== sessionId) return 'none';
      offices.set('deputy', sessionId, leaseMs);
      return 'deputy';
    });
  }

  resign(sessionId: string): Promise<void> {
    return this.connection.run(({ sessions: { offices } }) => {
      for (const office of ['supervisor', 'deputy'])
        if (offices.get(office) === sessionId) offices.delete(office);
    });
  }

  look(sessionId: string, leaseMs: number, withLeases: boolean): Promise<FleetView | undefined> {
    return this.connection.run((space) => {
      const { offices, states, leases } = space.sessions;
      if (offices.get('supervisor') !== sessionId) return undefined;
      offices.touch('supervisor', leaseMs);
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
        due: dueFunctions(space),
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

  private isPresent(sessionId: string): boolean {
    return this.connection.server.pubsub.hasSubscriber(this.keys.control(sessionId));
  }
}

function dueFunctions(space: MemorySpace): FleetView['due'] {
  const now = space.now();
  return [...space.delayed]
    .filter(([, dueAt]) => dueAt <= now)
    .sort(([, one], [, other]) => one - other)
    .slice(0, DUE_PER_LOOK)
    .flatMap(([id]) => space.byId(id)?.ref ?? []);
}
