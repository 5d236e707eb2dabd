import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findOnPath, privateApt, unpack } from '../../tools/debian-packages.mjs';

const CACHE = fileURLToPath(new URL('../../.cache/nats', import.meta.url));
const BINARY = 'usr/sbin/nats-server';
const START_LIMIT_MS = 10_000;

/** A private nats-server on 127.0.0.1, ended by its process. */
export class NatsServer {
  private constructor(
    readonly url: string,
    readonly version: string,
    private readonly process: ChildProcess,
  ) {}

  /** @throws Error that says why there is none */
  static async start(): Promise<NatsServer> {
    const command = findOnPath('nats-server') ?? (await fromCache());
    const port = await freePort();
    const child = spawn(command, ['--addr', '127.0.0.1', '--port', String(port)], {
      stdio: 'ignore',
    });
    process.once('exit', () => child.kill('SIGKILL'));
    try {
      return new NatsServer(`nats://127.0.0.1:${port}`, await greeting(port), child);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** Processor time that it has used so far, in milliseconds; 0 where the system does not tell. */
  async cpuMs(): Promise<number> {
    const stat = await readFile(`/proc/${this.process.pid}/stat`, 'utf8').catch(() => '');
    // After the name, which is in brackets: the 12th and 13th field are user and system time in ticks of 10 ms.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * 10;
  }

  async stop(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGTERM');
    await gone;
  }
}

/** A copy in the checkout's cache, else fetched there from Debian's package; as tools/redis.mjs does. */
async function fromCache(): Promise<string> {
  const home = join(CACHE, process.arch);
  const command = join(home, BINARY);
  if (existsSync(command)) return command;
  await mkdir(CACHE, { recursive: true });
  const building = await mkdtemp(join(CACHE, 'building-'));
  try {
    const apt = await privateApt(join(building, 'apt'));
    await apt(['update']);
    await unpack(apt, ['nats-server'], join(building, 'debs'), join(building, 'root'));
    await rename(join(building, 'root'), home);
  } finally {
    await rm(building, { recursive: true, force: true });
  }
  if (!existsSync(command)) throw new Error(`the package nats-server has no ${BINARY}`);
  return command;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

/** The server greets everybody with `INFO {...}`; resolves to its version. */
async function greeting(port: number): Promise<string> {
  const until = Date.now() + START_LIMIT_MS;
  for (;;) {
    const line = await firstLine(port).catch(() => '');
    const version = /"version":"([^"]+)"/.exec(line)?.[1];
    if (version !== undefined) return version;
    if (Date.now() > until) throw new Error(`nats-server did not answer on port ${port}`);
    await pause(20);
  }
}

function firstLine(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.setTimeout(1_000, () => socket.destroy(new Error('no greeting within 1 s')));
    socket.once('error', reject);
    socket.once('data', (chunk: Buffer) => {
      socket.destroy();
      resolve(chunk.toString());
    });
  });
}
