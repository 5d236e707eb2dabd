import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';

interface Service {
  image?: string;
  build?: string;
  command?: string[];
  environment?: Record<string, string>;
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[]; interval: string; timeout: string; retries: number };
  deploy?: { replicas: number };
  stop_grace_period?: string;
  ports?: string[];
}

const root = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const read = (path: string): string => readFileSync(root(path), 'utf8');

const { services } = parse(read('docker-compose.yml')) as { services: Record<string, Service> };
const service = (name: string): Service => {
  const found = services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
};

/** `[instruction, rest]` of each line, continued lines joined, comments left out. */
const instructions = read('Dockerfile')
  .replace(/\\\n/g, ' ')
  .split('\n')
  .filter((line) => line.trim() !== '' && !line.startsWith('#'))
  .map((line) => {
    const [instruction = '', ...rest] = line.trim().split(/\s+/);
    return [instruction.toUpperCase(), rest.join(' ')] as const;
  });
const all = (name: string): string[] =>
  instructions.filter(([instruction]) => instruction === name).map(([, rest]) => rest);

/** The arguments of a command that name files of the checkout. */
const filesOf = (command: readonly string[]): string[] =>
  command.filter((word) => /\.(ts|mjs|js)$/.test(word));

const secondsOf = (duration: string | undefined): number =>
  Number(/^(\d+)s$/.exec(duration ?? '')?.[1]);

describe('docker-compose.yml', () => {
  it('has Redis, workers and a caller', () => {
    expect(Object.keys(services).sort()).toEqual(['caller', 'redis', 'worker']);
  });

  it('checks the health of Redis with a ping', () => {
    expect(service('redis').image).toMatch(/^redis:7/);
    expect(service('redis').healthcheck?.test).toEqual(['CMD', 'redis-cli', 'ping']);
  });

  it('checks the health of the caller at /health on its port', () => {
    const caller = service('caller');
    expect(caller.healthcheck?.test[0]).toBe('CMD');
    expect(caller.healthcheck?.test.join(' ')).toContain(
      `http://127.0.0.1:${caller.environment?.['PORT']}/health`,
    );
    expect(caller.ports).toEqual([`3000:${caller.environment?.['PORT']}`]);
    // The example listens to its own host alone unless it is told otherwise.
    expect(caller.environment?.['HOST']).toBe('0.0.0.0');
  });

  it('runs several workers', () => {
    expect(service('worker').deploy?.replicas).toBe(3);
  });

  it.each(['worker', 'caller'])(
    'starts the %s when Redis is healthy, and points it there',
    (name) => {
      const { hostname, port, protocol } = new URL(service(name).environment?.['REDIS_URL'] ?? '');
      expect({ protocol, hostname, port }).toEqual({
        protocol: 'redis:',
        hostname: 'redis',
        port: '6379',
      });
      expect(service(name).depends_on).toEqual({ redis: { condition: 'service_healthy' } });
    },
  );

  it.each(['worker', 'caller'])('gives the %s longer to stop than its drain takes', (name) => {
    const defaultDrainSeconds = 10;
    expect(secondsOf(service(name).stop_grace_period)).toBeGreaterThan(defaultDrainSeconds);
  });

  it.each(['worker', 'caller'])('runs files that exist as the %s, without a shell', (name) => {
    const { command, build } = service(name);
    expect(build).toBe('.');
    expect(command?.[0]).toBe('node');
    const files = filesOf(command ?? []);
    expect(files.length).toBeGreaterThanOrEqual(2);
    expect(files.filter((file) => !existsSync(root(file)))).toEqual([]);
  });
});

describe('Dockerfile', () => {
  it('builds in one stage and runs in another', () => {
    expect(all('FROM')).toEqual(['node:20-slim AS build', 'node:20-slim']);
  });

  it('installs what the lockfile says and builds with a script of the package', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    expect(all('RUN')).toEqual(['npm ci', 'npm run build']);
    expect(scripts['build']).toBeDefined();
  });

  it('copies only what exists or is built', () => {
    const built = ['node_modules', 'dist'];
    const sources = all('COPY').flatMap((rest) =>
      rest
        .split(' ')
        .slice(0, -1)
        .filter((word) => !word.startsWith('--'))
        .map((word) => word.replace(/^\/app\//, '')),
    );
    expect(sources.filter((path) => !built.includes(path) && !existsSync(root(path)))).toEqual([]);
  });

  it('runs without root, and as the process that receives SIGTERM', () => {
    const user = instructions.findIndex(([name, rest]) => name === 'USER' && rest === 'node');
    const start = instructions.findIndex(([name]) => name === 'CMD');
    expect(user).toBeGreaterThan(-1);
    expect(start).toBeGreaterThan(user);

    const command = JSON.parse(all('CMD')[0] ?? '') as string[];
    expect(command[0]).toBe('node');
    expect(filesOf(command).filter((file) => !existsSync(root(file)))).toEqual([]);
    expect(command).toEqual(service('caller').command);
  });

  it('leaves out of the image what .dockerignore names, and nothing that it copies', () => {
    const ignored = read('.dockerignore').split('\n').filter(Boolean);
    expect(ignored).toEqual(expect.arrayContaining(['node_modules', 'dist', '.git', '.cache']));
    expect(ignored.filter((path) => ['src', 'tools', 'examples'].includes(path))).toEqual([]);
  });
});
