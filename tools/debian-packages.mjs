/**
 * Binaries of servers without root: the PATH's, or a copy out of the distribution's packages. The Redis of
 * tests and the nats-server of the benchmark come this way.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const fetchTimeoutMs = 180_000;

/** The first executable of that name on the PATH. */
export function findOnPath(name) {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    const file = join(dir, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      /* the next one */
    }
  }
  return undefined;
}

/** apt-get with lists and caches of its own: no root, and the machine's state stays untouched. */
export async function privateApt(dir) {
  await mkdir(join(dir, 'lists/partial'), { recursive: true });
  await mkdir(join(dir, 'cache/archives/partial'), { recursive: true });
  await writeFile(join(dir, 'status'), '');
  const settings = {
    'Dir::State::Lists': join(dir, 'lists'),
    'Dir::State::status': join(dir, 'status'),
    'Dir::Cache': join(dir, 'cache'),
    'APT::Sandbox::User': userName(),
    'Acquire::Retries': '3',
    // A network that answers nothing is told from a slow one by then.
    'Acquire::http::Timeout': '20',
    'Acquire::https::Timeout': '20',
  };
  const options = Object.entries(settings).map(([name, value]) => `-o${name}=${value}`);
  return (args, cwd = dir) =>
    run('apt-get', [...options, '-qq', ...args], { cwd, timeout: fetchTimeoutMs });
}

function userName() {
  try {
    return userInfo().username;
  } catch {
    return 'root'; // a container's user without a name
  }
}

/** Downloads packages into a folder and unpacks them under another. */
export async function unpack(apt, names, into, root) {
  await mkdir(into, { recursive: true });
  await apt(['download', ...names], into);
  for (const file of (await readdir(into)).filter((name) => name.endsWith('.deb'))) {
    await run('dpkg-deb', ['-x', join(into, file), root]);
  }
}
