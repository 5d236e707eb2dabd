import { afterEach, describe, expect, it } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { ExampleProcess } from './example-process.js';
import { BareMachines } from './machines.js';

const DEMO = 'examples/demo/main.ts';
const LIMIT_MS = 150_000;

describe('the demo', () => {
  const machines = new BareMachines();
  let redis: StartedRedis | undefined;
  let demo: ExampleProcess | undefined;

  afterEach(async () => {
    await demo?.stop('SIGKILL');
    await redis?.stop();
    demo = redis = undefined;
    machines.remove();
  });

  function play(env: Record<string, string>, ...args: string[]): ExampleProcess {
    demo = new ExampleProcess(DEMO, args, env);
    return demo;
  }

  /** What it checked of itself. */
  function verdicts(text: string): string[] {
    return [...text.matchAll(/^(?: {2}ok {2}|FAILED) {2}.*$/gm)].map(([line]) => line);
  }

  it(
    'says in its first line that it found no Redis, what is different then, and keeps its checks',
    async () => {
      const one = play(machines.withoutAnything());
      expect(await one.exit()).toBe(0);
      const { text } = one;
      expect(text).toMatch(
        /^Runs on the embedded backend memory:\/\/demo \(no Redis was found, none could be fetched: .*apt-get.*\): all in this one process, .*not shown\.\n/,
      );
      expect(verdicts(text)).toHaveLength(7);
      expect(verdicts(text).filter((line) => line.startsWith('FAILED'))).toEqual([]);
      // What takes processes it does not pretend to show.
      expect(text).toMatch(/^\(c\) killed worker .*not shown: takes processes/m);
      expect(text).not.toMatch(/SIGKILL|SIGTERM|pid \d/);
    },
    LIMIT_MS,
  );

  it(
    'plays with processes over a Redis that it is given, whose worker it kills',
    async () => {
      redis = await startRedis();
      const one = play({ REDIS_URL: redis.url }, '--backend', 'redis');
      expect(await one.exit()).toBe(0);
      const { text } = one;
      expect(text).toMatch(
        new RegExp(
          `^Runs on a Redis at 127\\.0\\.0\\.1:${redis.port} \\(named by REDIS_URL\\): .*\n`,
        ),
      );
      expect(verdicts(text)).toHaveLength(7);
      expect(verdicts(text).filter((line) => line.startsWith('FAILED'))).toEqual([]);
      expect(text).toMatch(/SIGKILL to pid \d+/);
      expect(text).toMatch(/offline \(process_died\)/);
      expect(text).not.toContain('not shown');
    },
    LIMIT_MS,
  );

  it(
    'says why no Redis could be fetched',
    async () => {
      const { reason, ...machine } = machines.withoutNetwork();
      const [line] = await play(machine).printed(/^Runs on .*\n/);
      expect(line).toContain(
        `memory://demo (no Redis was found, none could be fetched: ${reason})`,
      );
    },
    LIMIT_MS,
  );

  it(
    'leaves a Redis alone when it is told to do without',
    async () => {
      redis = await startRedis();
      const one = play({ REDIS_URL: redis.url }, '--backend=memory');
      const [line] = await one.printed(/^Runs on .*\n/);
      expect(line).toContain('memory://demo (asked for with --backend memory)');
    },
    LIMIT_MS,
  );

  it.each([
    ['a Redis that is not to be had', ['--backend', 'redis'], {}, /No Redis server: none.*/],
    ['a Redis that does not answer', [], { REDIS_URL: 'redis://127.0.0.1:1' }, /nothing answers/],
    ['a backend that does not exist', ['--backend', 'mysql'], {}, /--backend mysql: there is/],
    ['an argument that does not exist', ['--fast'], {}, /Unknown option '--fast'/],
  ])('ends with 1 when it is asked for %s', async (_what, args, env, problem) => {
    const one = play({ ...machines.withoutAnything(), ...env }, ...args);
    expect(await one.exit()).toBe(1);
    expect(one.text).toMatch(problem);
    expect(one.text).not.toContain('Runs on');
  });
});
