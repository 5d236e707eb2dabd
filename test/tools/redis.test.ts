import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { obtainRedis, startRedis, type StartedRedis } from '../../tools/redis.mjs';

const tool = fileURLToPath(new URL('../../tools/redis.mjs', import.meta.url));
const ownedByMe: StartedRedis[] = [];

async function start(options?: Parameters<typeof startRedis>[0]): Promise<StartedRedis> {
  const redis = await startRedis(options);
  ownedByMe.push(redis);
  return redis;
}

async function command(url: string, name: string, ...args: string[]): Promise<unknown> {
  const client = new Redis(url);
  try {
    return await client.call(name, ...args);
  } finally {
    client.disconnect();
  }
}

afterEach(async () => {
  await Promise.all(ownedByMe.splice(0).map((redis) => redis.stop()));
});

describe('the private Redis of the tests', () => {
  it('answers as soon as it is started, keeps nothing on disk and allows DEBUG', async () => {
    const redis = await start();
    expect(await command(redis.url, 'PING')).toBe('PONG');
    expect(await command(redis.url, 'CONFIG', 'GET', 'save')).toMatchObject(['save', '']);
    expect(await command(redis.url, 'DEBUG', 'JMAP').catch(String)).not.toContain('not allowed');
  });

  it('comes back on its port, in another process, after kill -9', async () => {
    const redis = await start();
    const { port, pid } = redis;
    await redis.kill('SIGKILL');
    await redis.restart();
    expect(redis.port).toBe(port);
    expect(redis.pid).not.toBe(pid);
    expect(await command(redis.url, 'PING')).toBe('PONG');
  });

  it('refuses a port on which another server answers', async () => {
    const first = await start();
    await expect(start({ port: first.port })).rejects.toThrow(/did not start on port/);
  });

  it('removes its folder when it stops, also when it was frozen', async () => {
    const redis = await start();
    await redis.kill('SIGSTOP');
    await redis.stop();
    await redis.stop();
    expect(existsSync(redis.dir)).toBe(false);
  });

  it('is gone after a process that was killed before it could stop it', async () => {
    const script = `const { startRedis } = await import(${JSON.stringify(tool)});
      const redis = await startRedis();
      console.log(redis.url);
      setInterval(() => undefined, 1000);`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script]);
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    const client = new Redis(line.toString().trim(), { retryStrategy: () => null });
    client.on('error', () => undefined);
    await client.ping();

    const closed = once(client, 'end');
    parent.kill('SIGKILL');

    await expect(closed).resolves.toBeDefined();
  });

  it('uses the Redis of REDIS_URL without ending it', async () => {
    const redis = await start();
    const before = process.env['REDIS_URL'];
    process.env['REDIS_URL'] = redis.url;
    try {
      const obtained = await obtainRedis();
      await obtained.stop();
      expect(obtained.url).toBe(redis.url);
      expect(await command(redis.url, 'PING')).toBe('PONG');
    } finally {
      if (before === undefined) delete process.env['REDIS_URL'];
      else process.env['REDIS_URL'] = before;
    }
  });

  it('is fetched into a folder for each who asks, also when two ask in one moment', async () => {
    const home = await mkdtemp(join(tmpdir(), 'nestjs-functions-apt-'));
    const log = join(home, 'asked');
    // An apt-get that says where it was to keep its lists, and fails.
    const apt = `#!/bin/sh\nfor word; do case $word in -oDir::State::Lists=*) echo "$word" >> '${log}';; esac; done\nexit 1\n`;
    await writeFile(join(home, 'apt-get'), apt, { mode: 0o755 });
    const script = `const { resolveRedisServer } = await import(${JSON.stringify(tool)});
      const cacheDir = ${JSON.stringify(join(home, 'cache'))};
      const asked = [resolveRedisServer({ cacheDir }), resolveRedisServer({ cacheDir })];
      for (const { status } of await Promise.allSettled(asked)) console.log(status);`;
    const args = ['--input-type=module', '-e', script];
    try {
      const { stdout } = await promisify(execFile)(process.execPath, args, {
        env: { PATH: home },
      });
      expect(stdout.trim().split('\n')).toEqual(['rejected', 'rejected']);
      const lists = (await readFile(log, 'utf8')).trim().split('\n');
      expect(lists).toHaveLength(2);
      expect(new Set(lists).size).toBe(2);
    } finally {
      await rm(home, { recursive: true });
    }
  });
});
