/**
 * `npm run bench -- [options]`: makes sure that the peers are installed, builds the library, and starts the
 * benchmark. Options: bench/README.md, or `--help`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const bench = fileURLToPath(new URL('.', import.meta.url));
const root = join(bench, '..');
const modules = join(bench, 'node_modules');

function run(command, args, cwd) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit' });
  if (error !== undefined) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

if (!existsSync(join(modules, '.package-lock.json'))) {
  run('npm', ['ci', '--no-audit', '--no-fund'], bench);
}

// The benchmark imports the built package by its name, as a user does; this folder's own package.json
// keeps it from being found by itself.
const own = join(modules, 'nestjs-functions');
if (!existsSync(own)) symlinkSync(root, own, 'junction');

if (!process.argv.includes('--help')) run('npm', ['run', '-s', 'build'], root);

const loader = new URL('../tools/register-ts.mjs', import.meta.url).href;
run(
  process.execPath,
  ['--enable-source-maps', '--import', loader, join(bench, 'main.ts'), ...process.argv.slice(2)],
  root,
);
