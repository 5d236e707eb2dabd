/**
 * `npm run soak -- --minutes N --seed S`: a storm of faults, drawn from the seed alone, over worker and caller
 * processes and a Redis of their own, and a check of what they wrote down.
 *
 * --minutes  how long faults go on (default 2)
 * --seed     of the plan (default: random, printed)
 * --keep     keeps the histories of a storm without violations, too
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkHistory } from './checker.js';
import { readHistory } from './history.js';
import { planOf } from './plan.js';
import { Storm } from './storm.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    keep: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const totalMs = Number(values.minutes) * 60_000;
const dir = await mkdtemp(join(tmpdir(), 'soak-'));
const began = Date.now();
const say = (text: string): void => {
  if (!values.quiet)
    console.log(`${((Date.now() - began) / 1_000).toFixed(1).padStart(7)} s  ${text}`);
};

console.log(`soak: ${values.minutes} minutes with seed ${seed}`);
const storm = await Storm.start(dir, seed, totalMs, say);
let outputs: string;
try {
  await storm.run(planOf(seed, totalMs), totalMs);
  say('the faults are over');
  await storm.finish();
} finally {
  outputs = storm.outputs();
  await storm.close();
}
const { violations, figures } = checkHistory(readHistory(dir));
const all = [...storm.violations, ...violations];
if (all.length > 0) {
  await writeFile(join(dir, 'outputs.txt'), outputs);
  console.log(`\n${all.slice(0, 20).join('\n')}`);
  console.log(`\nreproduce: npm run soak -- --minutes ${values.minutes} --seed ${seed}`);
  console.log(`histories and outputs: ${dir}`);
} else if (!values.keep) await rm(dir, { recursive: true });
console.log();
for (const [about, counts] of Object.entries(figures)) console.log(`${about}: ${list(counts)}`);
console.log(`faults: ${list(Object.fromEntries([...storm.faults].sort()))}`);
console.log(`violations: ${all.length}`);
process.exitCode = all.length > 0 ? 1 : 0;

function list(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
}
