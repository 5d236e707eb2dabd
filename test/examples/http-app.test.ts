import { afterEach, describe, expect, it } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { ExampleProcess } from './example-process.js';
import { BareMachines } from './machines.js';

describe('the HTTP example', () => {
  const machines = new BareMachines();
  let redis: StartedRedis | undefined;
  let app: ExampleProcess | undefined;

  afterEach(async () => {
    await app?.stop('SIGKILL');
    await redis?.stop();
    app = redis = undefined;
    machines.remove();
  });

  it.each([
    // A Redis of its own: the example has no key prefix.
    ['a Redis', /^Runs on a Redis at [\d.:]+ \(named by REDIS_URL\): workers are processes/],
    ['no Redis to be had', /^Runs on the embedded backend memory:.* workers are applications of/],
  ])(
    'with %s brings its workers, answers, is healthy, and ends everything on Ctrl-C',
    async (what, firstLine) => {
      if (what === 'a Redis') redis = await startRedis();
      const env = redis === undefined ? machines.withoutAnything() : { REDIS_URL: redis.url };
      app = new ExampleProcess('examples/http-app/main.ts', [], {
        ...env,
        PORT: '0',
        WORKERS: '1',
      });
      expect((await app.printed(/^.*\n/))[0]).toMatch(firstLine);
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
    },
    60_000,
  );

  it('has a worker without Redis even where others were to bring them', async () => {
    app = new ExampleProcess('examples/http-app/main.ts', ['--backend', 'memory'], { PORT: '0' });
    await app.printed(/asked for with --backend memory/);
    const url = (await app.printed(/curl -s (http:\S+)\/status/))[1] ?? '';
    expect(await (await fetch(`${url}/status`)).json()).toMatchObject({ available: true });
    expect(app.text).not.toContain('kill -TERM');
  }, 60_000);

  it('ends with the cure when it is to use a Redis and there is none', async () => {
    const env = { ...machines.withoutAnything(), PORT: '0' };
    app = new ExampleProcess('examples/http-app/main.ts', ['--backend', 'redis'], env);
    expect(await app.exit()).toBe(1);
    expect(app.text).toMatch(/^No Redis server: none[^]*Or do without one: --backend memory\n$/);
  }, 60_000);
});
