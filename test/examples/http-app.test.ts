import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { eventually } from '../harness/eventually.js';
import { ExampleProcess } from './example-process.js';

describe('the HTTP example', () => {
  // One of its own: the example has no key prefix.
  let redis: StartedRedis;
  let app: ExampleProcess | undefined;

  beforeEach(async () => {
    redis = await startRedis();
  });

  afterEach(async () => {
    await app?.stop('SIGKILL');
    await redis.stop();
  });

  it('brings its workers, answers, is healthy, and ends everything on SIGTERM', async () => {
    app = new ExampleProcess('examples/http-app/main.ts', [], {
      REDIS_URL: redis.url,
      PORT: '0',
      WORKERS: '1',
    });
    const url = (await app.printed(/curl -s (http:\S+)\/render/))[1] ?? '';
    const post = (body: unknown): Promise<Response> =>
      fetch(`${url}/render`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });

    const answer = await eventually(
      'an answer',
      async () => {
        const response = await post({ markdown: '# Hello *you*' });
        expect(response.status).toBe(200);
        return (await response.json()) as { html: string; workerId: string };
      },
      30_000,
    );
    expect(answer.html).toBe('<h1>Hello <em>you</em></h1>\n');
    expect((await post({ markdown: 7 })).status).toBe(400);
    expect(await (await fetch(`${url}/status`)).json()).toMatchObject({
      available: true,
      functions: [{ name: 'render', description: 'Markdown to HTML' }],
    });
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);

    expect(await app.stop()).toBe(0);
  }, 60_000);
});
