import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
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

  it('brings its workers, answers, is healthy, and says that it ends everything on Ctrl-C', async () => {
    app = new ExampleProcess('examples/http-app/main.ts', [], {
      REDIS_URL: redis.url,
      PORT: '0',
      WORKERS: '1',
    });
    const url = (await app.printed(/curl -s (http:\S+)\/render/))[1] ?? '';
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const post = (body: unknown): Promise<Response> =>
      fetch(`${url}/render`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });

    // Its workers are up when it says what to try: the first attempt is answered.
    const response = await post({ markdown: '# Hello *you*' });
    expect(response.status).toBe(200);
    const answer = (await response.json()) as { html: string; workerId: string };
    expect(answer.html).toBe('<h1>Hello <em>you</em></h1>\n');
    for (const mistake of [{ markdown: 7 }, { markdown: '', speed: 'fast' }, {}, []])
      expect((await post(mistake)).status).toBe(400);
    expect(await (await fetch(`${url}/status`)).json()).toMatchObject({
      available: true,
      functions: [{ name: 'render', description: 'Markdown to HTML' }],
    });
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);

    const ended = app.stop('SIGINT');
    await app.printed(/Ending: first this server, then the workers/);
    expect(await ended).toBe(0);
  }, 60_000);
});
