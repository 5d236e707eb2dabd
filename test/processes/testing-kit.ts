/**
 * A test with the kit, in a process that cannot load ioredis; sends what its calls gave, and what is left of timers and
 * the like when all is closed, and ends by itself.
 */
import 'reflect-metadata';
import { createHook } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import { Module } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { forbidIoredis } from './forbid-ioredis.js';

forbidIoredis();
const tell = (message: object): void => void process.send?.(message);

const { EnhancedFunctionRegistry, FunctionsModule } = await import('../../src/index.js');
const { FunctionsTestingModule, TestFleet } = await import('../../src/testing/index.js');

@Module({ imports: [FunctionsModule.forRoot({ connection: 'redis://127.0.0.1:1' })] })
class AppModule {}

/** Timers of this process, those that would not keep it alive included. */
const timers = new Set<number>();
createHook({
  init: (id, type) => {
    if (type === 'Timeout') timers.add(id);
  },
  destroy: (id) => void timers.delete(id),
}).enable();

type Fleet = InstanceType<typeof TestFleet>;

const code = (call: Promise<unknown>): Promise<unknown> =>
  call.catch((error: unknown) => (error as { code: unknown }).code);

async function answersOf(module: TestingModule, fleet: Fleet): Promise<unknown[]> {
  const registry = module.get(EnhancedFunctionRegistry);
  const work = await fleet.stub('work', 'done');
  const done = await registry.call('work');
  const none = await code(registry.call('nobody', {}, { ifUnavailable: 'fail' }));
  work.hang();
  const late = code(registry.call('work', {}, { timeoutMs: 60_000 }));
  await fleet.clock.advance(60_000);
  fleet.spy.clear();
  const lost = registry.call('work');
  await fleet.spy.waitFor('started');
  await fleet.stub('work', (_, { attempt }) => `attempt ${attempt}`, { workerId: 'other' });
  await work.die();
  return [done, none, await late, await lost];
}

// Nest has timers of its own while it loads; from here on each is the kit's or the library's.
const builder = Test.createTestingModule({ imports: [AppModule] });
const module = await FunctionsTestingModule.override(builder).compile();
await module.init();
const fleet = module.get(TestFleet);
tell({ type: 'answers', answers: await answersOf(module, fleet) });
await module.close();
// A turn for what was closed just now to be gone.
await setImmediate();
tell({ type: 'left', timers: timers.size, waiting: fleet.clock.pending });
process.disconnect();
