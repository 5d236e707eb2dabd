import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BenchOptions } from '../options.js';
import type { Machine } from './machine.js';
import type { Measurements } from './measurements.js';
import type { Verdict } from './targets.js';

const FOLDER = fileURLToPath(new URL('../results', import.meta.url));

/** Everything about a run. */
export interface Results {
  readonly startedAt: Date;
  readonly options: BenchOptions;
  readonly machine: Machine;
  readonly measurements: Measurements;
  readonly verdicts: readonly Verdict[];
}

/** Writes a run as JSON and resolves to the file. */
export async function writeResults(results: Results): Promise<string> {
  await mkdir(FOLDER, { recursive: true });
  const stamp = results.startedAt.toISOString().replace(/[:.]/g, '-');
  const file = join(FOLDER, `${stamp}.json`);
  await writeFile(file, `${JSON.stringify(results, undefined, 2)}\n`);
  return file;
}
