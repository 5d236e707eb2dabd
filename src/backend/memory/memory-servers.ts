import type { Clock } from '../../common/clock.js';
import { MemoryServer } from './memory-server.js';

interface Shared {
  readonly server: MemoryServer;
  users: number;
}

const servers = new Map<string, Shared>();

/** One user's share of a named server. */
export interface ServerLease {
  readonly server: MemoryServer;
  /** Lets go of it: with its last user a server ends, and what is stored in it. Safe to call twice. */
  release(): void;
}

/**
 * The server of this name in this process: one for all who name it, made by the first of them, on whose clock it
 * runs.
 */
export function useServer(name: string, clock: Clock): ServerLease {
  let shared = servers.get(name);
  if (shared === undefined)
    servers.set(name, (shared = { server: new MemoryServer(clock), users: 0 }));
  const mine = shared;
  mine.users += 1;
  let held = true;
  return {
    server: mine.server,
    release: () => {
      if (!held) return;
      held = false;
      mine.users -= 1;
      if (mine.users === 0 && servers.get(name) === mine) servers.delete(name);
    },
  };
}
