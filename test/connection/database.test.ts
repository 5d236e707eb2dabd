import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Module, type DynamicModule } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  FunctionHandler,
  FunctionRegistry,
  FunctionsModule,
  WorkerCoordinator,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { eventually } from '../harness/eventually.js';
import { NestApps } from '../harness/nest-apps.js';

class Greeter {
  @FunctionHandler({ name: 'greet' })
  greet(): string {
    return 'hello';
  }
}

@Module({})
class Root {}

function root(connection: string): DynamicModule {
  return {
    module: Root,
    imports: [FunctionsModule.forRoot({ connection })],
    providers: [Greeter],
  };
}

describe('a database that cannot be selected', () => {
  let redis: StartedRedis;
  let apps: NestApps;
  let admin: Redis;

  beforeEach(async () => {
    redis = await startRedis({ args: ['--databases', '4'] });
    apps = new NestApps(redis.url);
    admin = new Redis(redis.url);
  });

  afterEach(async () => {
    await apps.close();
    admin.disconnect();
    await redis.stop();
  });

  it('is no connection: it is said once, calls fail, and no other database gets anything', async () => {
    const logger = new CapturingLogger();
    const app = await apps.context(root(`${redis.url}/9`), logger);
    expect(app.get(WorkerCoordinator).state).toBe('joining');
    await expect(app.get(FunctionRegistry).getAvailableFunctions()).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringMatching(/refuses this client \(ERR DB index is out of range\)/),
    });
    const said = logger.of('REDIS', 'error');
    expect(said).toEqual([expect.stringMatching(/^database 9 of redis:\/\/.* cannot be used/)]);
    expect(await admin.dbsize()).toBe(0);
  });

  it('is tried again, and is what the process works on once it can be selected', async () => {
    await admin.acl('SETUSER', 'default', '-select');
    const logger = new CapturingLogger();
    const app = await apps.context(root(`${redis.url}/3`), logger);
    expect(logger.of('REDIS', 'error')).toEqual([expect.stringContaining('database 3')]);
    await admin.acl('SETUSER', 'default', '+select');
    await eventually('it joins', () => app.get(WorkerCoordinator).state === 'active');
    expect(await admin.dbsize()).toBe(0);
    const info = await admin.info('keyspace');
    expect(info).toMatch(/^db3:keys=/m);
  });
});
