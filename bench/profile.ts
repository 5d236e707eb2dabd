import type { PeerCallerCommands } from './processes/peer-caller.js';
import type { PeerWorkerCommands } from './processes/peer-worker.js';
import type { Profiler } from './processes/profiler.js';
import { renderTable } from './report/table.js';
import type { Stage } from './stage/stage.js';

type Profile = Awaited<ReturnType<Profiler['stop']>>;

const ROWS = 15;
const WARM_UP_MS = 2_000;
const DURATION_MS = 5_000;

/** Where the time of a call goes: the functions of caller and worker with the most self time, at 1 and 512. */
export async function printProfiles(stage: Stage): Promise<void> {
  const settings = { ...stage.settings(), peer: 'nestjs-functions' };
  const worker = await stage.start<PeerWorkerCommands>('peer-worker.ts', settings);
  const caller = await stage.start<PeerCallerCommands>('peer-caller.ts', settings);
  for (const lanes of [1, 512]) {
    const load = { size: 100, lanes, leadInMs: 0 };
    await caller.ask('throughput', { ...load, durationMs: WARM_UP_MS });
    await Promise.all([caller.ask('startProfile'), worker.ask('startProfile')]);
    const { perSecond } = await caller.ask('throughput', { ...load, durationMs: DURATION_MS });
    const profiles = { caller: caller.ask('stopProfile'), worker: worker.ask('stopProfile') };
    console.log(`\n${lanes} in flight: ${Math.round(perSecond)} calls/s under the profiler`);
    print('caller', await profiles.caller);
    print('worker', await profiles.worker);
  }
}

function print(process: string, { busyPercent, top }: Profile): void {
  const table = renderTable({
    title: `\n${process}, busy ${busyPercent.toFixed(0)} % of the time`,
    head: ['self time of', '% of busy'],
    rows: top.slice(0, ROWS).map(({ name, percent }) => [name, percent.toFixed(1)]),
  });
  console.log(table);
}
