/**
 * A Redis for tests and the demo: the user's (REDIS_URL), else a private one on a free port.
 * The binary is the PATH's, else a copy in the checkout's cache, else fetched there from the
 * distribution's packages, without root. Nothing here relies on a server that happens to run.
 *
 * `node tools/redis.mjs` starts one and prints its url until Ctrl-C.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findOnPath, privateApt, unpack } from './debian-packages.mjs';

const run = promisify(execFile);
/** REDIS_CACHE_DIR: for a checkout that cannot be written to, and for tests of a machine that has no copy yet. */
const defaultCacheDir =
  process.env.REDIS_CACHE_DIR || fileURLToPath(new URL('../.cache/redis', import.meta.url));

const startTimeoutMs = 15_000;
const stopTimeoutMs = 5_000;

// ---------------------------------------------------------------------------------------------
// The binary
// ---------------------------------------------------------------------------------------------

/** redis-check-rdb, in redis-tools, is the server's own binary under another name. */
const packages = ['redis-tools', 'libjemalloc2', 'liblzf1'];

/** What a bare image may lack besides, by the name the dynamic loader complains about. */
const packagesOfLibrary = [
  [/^lib(ssl|crypto)\.so\.3/, ['libssl3t64', 'libssl3']],
  [/^libatomic\.so/, ['libatomic1']],
  [/^libsystemd\.so/, ['libsystemd0']],
  [/^libcap\.so/, ['libcap2']],
  [/^libgcrypt\.so/, ['libgcrypt20']],
  [/^libgpg-error\.so/, ['libgpg-error0']],
  [/^liblz4\.so/, ['liblz4-1']],
  [/^liblzma\.so/, ['liblzma5']],
  [/^libzstd\.so/, ['libzstd1']],
  [/^libstdc\+\+\.so/, ['libstdc++6']],
  [/^liblua5\.1/, ['liblua5.1-0']],
  [/cjson/, ['lua-cjson']],
  [/bit/, ['lua-bitop']],
];

/** Resolves to `{ command, env, version, origin }`; see redis.d.mts. */
export async function resolveRedisServer({ cacheDir = defaultCacheDir } = {}) {
  const onPath = findOnPath('redis-server');
  if (onPath !== undefined) {
    const version = await versionOf(onPath, process.env).catch(() => undefined);
    if (version !== undefined && isRecentEnough(version)) {
      return { command: onPath, env: { ...process.env }, version, origin: 'path' };
    }
  }
  const home = join(cacheDir, process.arch);
  return (await fromCache(home)) ?? (await fetchInto(cacheDir, home));
}

/** The version, or an error when the binary does not run here (another libc, a missing library). */
async function versionOf(command, env) {
  const { stdout } = await run(command, ['--version'], {
    env: { ...env, LC_ALL: 'C' },
    timeout: 10_000,
  });
  return /v=(\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? '0.0.0';
}

function isRecentEnough(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 2);
}

async function fromCache(home) {
  const command = join(home, 'usr/bin/redis-server');
  if (!existsSync(command)) return undefined;
  try {
    const env = environmentOf(home);
    return { command, env, version: await versionOf(command, env), origin: 'cache' };
  } catch {
    return undefined; // a cache made on another system: it is fetched anew
  }
}

/** The machine's own libraries still serve; those of the cache come first. */
function environmentOf(home) {
  const dirs = [];
  for (const lib of ['usr/lib', 'lib'].map((dir) => join(home, dir)).filter(existsSync)) {
    const triplets = readdirSync(lib).filter((entry) => entry.includes('-linux-'));
    dirs.push(...triplets.map((triplet) => join(lib, triplet)));
  }
  const inherited = process.env.LD_LIBRARY_PATH;
  return {
    ...process.env,
    LD_LIBRARY_PATH: [...dirs, ...(inherited ? [inherited] : [])].join(delimiter),
  };
}

/**
 * Builds the copy in a folder of its own and renames it into place, so that a reader never sees
 * half of it; of two who race, also in one process, the second to finish takes the first one's.
 */
async function fetchInto(cacheDir, home) {
  await mkdir(cacheDir, { recursive: true });
  const building = await mkdtemp(join(cacheDir, 'building-'));
  try {
    await mkdir(join(building, 'root'));
    await download(building);
    return (await putInPlace(join(building, 'root'), home)) ?? (await unusable(home));
  } catch (error) {
    throw new Error(howToGetRedis(error), { cause: error });
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

function unusable(home) {
  throw new Error(`the copy in ${home} does not run`);
}

async function putInPlace(root, home) {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      await rename(root, home);
      return await fromCache(home);
    } catch (error) {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    }
    const theirs = await fromCache(home);
    if (theirs !== undefined) return theirs;
    await rename(home, `${root}-stale-${attempt}`).catch(() => undefined);
  }
  return undefined;
}

async function download(building) {
  const apt = await privateApt(join(building, 'apt'));
  const root = join(building, 'root');
  await apt(['update']);
  await unpack(apt, packages, join(building, 'debs'), root);
  await symlink('redis-check-rdb', join(root, 'usr/bin/redis-server'));
  await completeLibraries(apt, join(building, 'more-debs'), root);
}

/** Asks the loader what is missing, one library at a time, until the server starts. */
async function completeLibraries(apt, into, root) {
  const command = join(root, 'usr/bin/redis-server');
  for (let attempt = 0; ; attempt++) {
    const problem = await versionOf(command, environmentOf(root)).then(() => undefined, String);
    if (problem === undefined) return;
    const library = /error while loading shared libraries: (\S+?):/.exec(problem)?.[1];
    const candidates = packagesOfLibrary.find(([name]) => library && name.test(library))?.[1];
    if (candidates === undefined || attempt >= packagesOfLibrary.length) throw new Error(problem);
    await unpackFirst(apt, candidates, join(into, String(attempt)), root);
  }
}

async function unpackFirst(apt, candidates, into, root) {
  const problems = [];
  for (const name of candidates) {
    try {
      return await unpack(apt, [name], into, root);
    } catch (error) {
      problems.push(error);
    }
  }
  throw new AggregateError(problems, `none of ${candidates.join(', ')} could be fetched`);
}

function howToGetRedis(error) {
  const detail = String(error.stderr || error.message)
    .trim()
    .split('\n')
    .slice(-4)
    .map((line) => `    ${line}`);
  return [
    'No Redis server: none (6.2 or newer) is on the PATH, and fetching one from the packages of',
    'Debian or Ubuntu with apt-get download and dpkg-deb failed:',
    ...detail,
    'Any of these helps:',
    '  - install one:   apt-get install redis-server | brew install redis | apk add redis',
    '  - or run one:    docker run --rm -p 6379:6379 redis:7',
    '                   and name it: REDIS_URL=redis://127.0.0.1:6379',
    '  - or name one:   REDIS_URL=redis://user:password@host:port',
  ].join('\n');
}

// ---------------------------------------------------------------------------------------------
// The server
// ---------------------------------------------------------------------------------------------

/** What has to go when this process ends without having stopped it. */
const running = new Set();
process.on('exit', () => {
  for (const server of running) server.abandon();
});

/** Starts a private server on 127.0.0.1; see redis.d.mts. */
export async function startRedis({ port, args = [], dir } = {}) {
  const binary = await resolveRedisServer();
  const ownDir = dir === undefined;
  const home = dir ?? (await mkdtemp(join(tmpdir(), 'nestjs-functions-redis-')));
  const server = new RedisServer(binary, args, home, ownDir);
  try {
    await server.startOn(port);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

/** The Redis of REDIS_URL, which is only used and never stopped, else a private one. */
export async function obtainRedis(options = {}) {
  const url = process.env.REDIS_URL;
  if (url === undefined || url === '') return startRedis(options);
  await expectAnswer(url);
  return { url, origin: 'REDIS_URL', stop: () => Promise.resolve() };
}

async function expectAnswer(url) {
  const { protocol, hostname, port } = new URL(url);
  if (protocol !== 'redis:') return; // TLS or a socket: the client will tell
  const host = hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
  const answer = await ask(host, Number(port || 6379), 'PING').catch((error) => error);
  if (!(answer instanceof Error)) return;
  throw new Error(
    `REDIS_URL names ${host}:${port || 6379}, but nothing answers there (${answer.message}). ` +
      'Start that Redis, or unset REDIS_URL to have a private one started.',
  );
}

/** One server on one port; its process changes with every restart. */
class RedisServer {
  #binary;
  #args;
  #dir;
  #ownDir;
  #port = 0;
  #process;
  #exited = Promise.resolve();
  #guard;
  #output = '';

  constructor(binary, args, dir, ownDir) {
    this.#binary = binary;
    this.#args = args;
    this.#dir = dir;
    this.#ownDir = ownDir;
  }

  get url() {
    return `redis://127.0.0.1:${this.#port}`;
  }

  get origin() {
    return this.#binary.origin;
  }

  get port() {
    return this.#port;
  }

  get pid() {
    return this.#process?.pid;
  }

  get process() {
    return this.#process;
  }

  get dir() {
    return this.#dir;
  }

  /** A free port may be taken between the question and the start: then another one is tried. */
  async startOn(port) {
    for (let attempt = 1; ; attempt++) {
      this.#port = port ?? (await freePort());
      try {
        return await this.#launch();
      } catch (error) {
        if (port !== undefined || attempt >= 5 || !this.#portWasTaken()) throw error;
      }
    }
  }

  /** Sends a signal by pid. Resolves when the process is gone, or at once for SIGSTOP and the like. */
  async kill(signal = 'SIGKILL') {
    const ends = signal === 'SIGKILL' || signal === 'SIGTERM' || signal === 'SIGINT';
    if (ends) this.#hold(true);
    this.#process?.kill(signal);
    if (ends) await this.#exited;
  }

  /** The same port, arguments and folder, in a new process. */
  async restart() {
    await this.#end();
    const until = Date.now() + startTimeoutMs;
    for (;;) {
      try {
        return await this.#launch();
      } catch (error) {
        if (!this.#portWasTaken() || Date.now() > until) throw error;
        await delay(50);
      }
    }
  }

  async stop() {
    await this.#end();
    if (this.#ownDir) await rm(this.#dir, { recursive: true, force: true });
  }

  /** The last resort of a process that ends: synchronous. */
  abandon() {
    this.#process?.kill('SIGKILL');
    if (this.#ownDir) rmSync(this.#dir, { recursive: true, force: true });
  }

  async #launch() {
    this.#output = '';
    const child = spawn(this.#binary.command, this.#arguments(), {
      cwd: this.#dir,
      env: this.#binary.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A terminal's Ctrl-C is for those who use it: they drain over it, and then stop it.
      detached: true,
    });
    this.#process = child;
    running.add(this);
    const keep = (chunk) => (this.#output = (this.#output + chunk).slice(-8_192));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => {
        keep(error.message);
        resolve();
      });
      child.once('close', resolve);
    });
    this.#watchOver(child);
    await this.#answers(child);
    this.#hold(false);
  }

  #arguments() {
    const debug = Number.parseInt(this.#binary.version, 10) >= 7;
    return [
      ...['--port', String(this.#port), '--bind', '127.0.0.1', '--dir', this.#dir],
      ...['--save', '', '--appendonly', 'no'],
      ...(debug ? ['--enable-debug-command', 'local'] : []),
      ...this.#args,
    ];
  }

  /** A shell whose input ends with this process, however it ends, and then removes the server. */
  #watchOver(child) {
    if (child.pid === undefined) return;
    const script = 'read _; kill -9 "$1"; if [ -n "$2" ]; then rm -rf -- "$2"; fi';
    const args = ['-c', script, 'guard', String(child.pid), this.#ownDir ? this.#dir : ''];
    const guard = spawn('sh', args, { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    guard.on('error', () => undefined);
    guard.stdin.on('error', () => undefined);
    guard.unref();
    guard.stdin.unref?.();
    this.#guard = guard;
    child.once('exit', () => guard.kill('SIGKILL'));
  }

  /** Ready when this very process answers: another server may have taken the port before us. */
  async #answers(child) {
    const until = Date.now() + startTimeoutMs;
    let last = 'no answer yet';
    while (Date.now() < until && child.exitCode === null && child.signalCode === null) {
      if (child.pid === undefined) break;
      const answer = await ask('127.0.0.1', this.#port, 'PING', 'INFO server').catch(String);
      if (answer.includes('NOAUTH')) return;
      const ours = answer.includes(`process_id:${child.pid}\r`);
      if (answer.includes('+PONG') && ours) return;
      last = answer.includes('process_id:') && !ours ? 'another server answers' : firstLine(answer);
      await delay(10);
    }
    await this.#end();
    throw new Error(`redis-server did not start on port ${this.#port}: ${last}\n${this.#output}`);
  }

  /** An idle server keeps no process alive, what uses it does; but its end is waited for. */
  #hold(keepAlive) {
    const { stdout, stderr } = this.#process ?? {};
    for (const handle of [this.#process, stdout, stderr]) {
      if (keepAlive) handle?.ref?.();
      else handle?.unref?.();
    }
  }

  #portWasTaken() {
    return /Address already in use|Failed listening on port/.test(this.#output);
  }

  /** SIGCONT first: a server that a test had stopped could not act on SIGTERM. */
  async #end() {
    this.#hold(true);
    this.#guard?.kill('SIGKILL');
    this.#process?.kill('SIGCONT');
    this.#process?.kill('SIGTERM');
    const force = setTimeout(() => this.#process?.kill('SIGKILL'), stopTimeoutMs);
    await this.#exited;
    clearTimeout(force);
    running.delete(this);
  }
}

function firstLine(text) {
  return text.split(/\r?\n/, 1)[0];
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Sends inline commands over a raw socket; resolves to everything answered up to QUIT's end. */
function ask(host, port, ...commands) {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let answer = '';
    socket.setTimeout(1_000, () => socket.destroy(new Error('no answer within 1 s')));
    socket.setEncoding('utf8');
    socket.once('connect', () => socket.write(`${[...commands, 'QUIT'].join('\r\n')}\r\n`));
    socket.on('data', (chunk) => (answer += chunk));
    socket.once('error', reject);
    socket.once('close', () => resolve(answer));
  });
}

// ---------------------------------------------------------------------------------------------
// The command
// ---------------------------------------------------------------------------------------------

async function main() {
  const server = await startRedis();
  const stop = () => void server.stop().then(() => process.exit(0));
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  console.log(server.url);
  setInterval(() => undefined, 60_000);
}

const invoked = process.argv[1];
if (invoked !== undefined && realpathSync(invoked) === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
}
