import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { metric, type StartUp } from '../report/metrics.js';
import { figure, type Table } from '../report/table.js';
import type { Benchmark } from './benchmark.js';

const run = promisify(execFile);
const FILE = fileURLToPath(new URL('../processes/start-up.mjs', import.meta.url));
const KINDS: readonly StartUp[] = ['worker', 'caller', 'Nest alone'];
const SAMPLES = 5;

interface StartUpReport {
  readonly importMs: number;
  readonly readyMs: number;
}

/** Import of the package with all it needs, and `forRoot` to registered and ready; beside an empty Nest application. */
export const startUp: Benchmark = {
  names: ['start-up'],

  async run({ stage, measurements, rounds, quick, quiet, say }) {
    const { redisUrl, keyPrefix } = stage.settings();
    const env = { ...process.env, REDIS_URL: redisUrl, KEY_PREFIX: keyPrefix };
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1}: start-up`);
      for (let sample = 0; sample < (quick ? 1 : SAMPLES); sample++) {
        await quiet();
        for (const kind of KINDS) {
          const { stdout } = await run(process.execPath, [FILE], {
            env: { ...env, START_UP: kind },
          });
          const { importMs, readyMs } = JSON.parse(stdout) as StartUpReport;
          measurements.add(metric.startImport(kind), importMs);
          measurements.add(metric.startReady(kind), readyMs);
        }
      }
    }
  },

  tables: ({ measurements }): Table[] => [
    {
      title: 'Start-up (ms)',
      head: ['', 'import', 'forRoot to ready'],
      rows: KINDS.map((kind) => [
        kind,
        figure(measurements.median(metric.startImport(kind))),
        figure(measurements.median(metric.startReady(kind))),
      ]),
    },
  ],
};
