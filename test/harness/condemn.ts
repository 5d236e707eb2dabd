import type { Fleet } from './apps.js';

/** Does to every session of the fleet what a supervisor does that takes it for dead. */
export async function condemnAll(fleet: Fleet): Promise<void> {
  const { redis, prefix } = fleet;
  const processes = `${prefix}nf:processes`;
  const batch = redis.multi();
  for (const session of await redis.hkeys(processes)) {
    batch.del(`${prefix}nf:process:{${session}}:lease`);
    batch.hset(processes, session, 'condemned');
  }
  await batch.exec();
}

/** Removes every lease, as time does while Redis stands still. */
export async function dropLeases(fleet: Fleet): Promise<void> {
  const leases = (await fleet.keys()).filter((key) => key.endsWith(':lease'));
  if (leases.length > 0) await fleet.redis.del(leases);
}
