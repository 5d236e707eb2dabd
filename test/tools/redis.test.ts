import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
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
});
