import { expect, it } from '@jest/globals';
import { TestProcess } from '../harness/processes.js';

it('an application on memory:// loads no ioredis, and ends when it is closed', async () => {
  const app = TestProcess.start('without-ioredis.ts', { REDIS_URL: 'memory://' });
  await expect(app.message('sum')).resolves.toEqual({ type: 'sum', sum: 3 });
  await expect(app.exit()).resolves.toMatchObject({ code: 0 });
});

it('the testing kit loads no ioredis, and leaves nothing behind when it is closed', async () => {
  const test = TestProcess.start('testing-kit.ts', {});
  await expect(test.message('answers')).resolves.toEqual({
    type: 'answers',
    answers: ['done', 'NO_WORKER', 'DEADLINE_EXCEEDED', 'attempt 2'],
  });
  await expect(test.message('left')).resolves.toEqual({
    type: 'left',
    timers: 0,
    waiting: 0,
  });
  await expect(test.exit()).resolves.toMatchObject({ code: 0 });
});

it('an application on Redis that has no ioredis is told to install it', async () => {
  const app = TestProcess.start('without-ioredis.ts', { REDIS_URL: 'redis://127.0.0.1:1' });
  const { message } = await app.message<{ type: 'failed'; message: string }>('failed');
  expect(message).toContain('npm i ioredis');
});
