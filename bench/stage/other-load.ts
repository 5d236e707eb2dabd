import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';

const LOOK_MS = 500;

/**
 * How busy all cores are, in percent, while the benchmark itself only waits: what other programs of this machine
 * take from the figures.
 */
export async function otherLoadPercent(): Promise<number> {
  const before = coreTimes();
  await pause(LOOK_MS);
  const after = coreTimes();
  return ((after.busy - before.busy) / (after.all - before.all)) * 100;
}

function coreTimes(): { busy: number; all: number } {
  let busy = 0;
  let all = 0;
  for (const { times } of cpus()) {
    const used = times.user + times.nice + times.sys + times.irq;
    busy += used;
    all += used + times.idle;
  }
  return { busy, all };
}
