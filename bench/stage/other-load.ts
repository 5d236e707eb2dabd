import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';

const LOOK_MS = 200;
/** Below this others are no reason to wait. */
const QUIET_PERCENT = 20;

/**
 * Waits for a moment in which other programs leave the machine alone, but no longer than `limitMs`: on a machine that
 * is never quiet the figures are taken all the same. Resolves to how busy others kept the cores in the last look.
 */
export async function untilQuiet(limitMs: number): Promise<number> {
  const end = performance.now() + limitMs;
  for (;;) {
    const percent = await otherLoadPercent();
    if (percent < QUIET_PERCENT || performance.now() > end) return percent;
  }
}

/**
 * How busy all cores are, in percent, while the benchmark itself only waits: what other programs of this machine
 * take from the figures.
 */
async function otherLoadPercent(): Promise<number> {
  const before = coreTimes();
  await pause(LOOK_MS);
  const after = coreTimes();
  return ((after.busy - before.busy) / (after.all - before.all)) * 100;
}

/** Processor time of all programs and cores so far, in milliseconds. */
export function machineBusyMs(): number {
  return coreTimes().busy;
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
