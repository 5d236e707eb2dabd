import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { RedisCallReader } from '../../src/backend/redis/redis-call-reader.js';
import { RedisOutcomeWriter } from '../../src/backend/redis/redis-outcome-writer.js';
import { RedisReplyReader } from '../../src/backend/redis/redis-reply-reader.js';
import { RedisSubmitter } from '../../src/backend/redis/redis-submitter.js';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { hosting } from '../harness/host.js';

let fleet: Fleet;
beforeEach(() => {
  fleet = new Fleet();
});
afterEach(async () => {
  jest.restoreAllMocks();
  await fleet.close();
});

const CALLS = 10;

type Ask = (...args: unknown[]) => Promise<unknown>;

/** What is said to Redis, and what a read brought, in their order. */
function logged(): string[] {
  const log: string[] = [];
  const listen = (type: { prototype: unknown }, method: string, asked: string, got = ''): void => {
    const prototype = type.prototype as Record<string, Ask>;
    const original = prototype[method] as Ask;
    jest.spyOn(prototype, method).mockImplementation(async function (this: unknown, ...args) {
      log.push(asked);
      const answer = await original.apply(this, args);
      if (got !== '' && (answer as unknown[]).length > 0) log.push(got);
      return answer;
    });
  };
  listen(RedisSubmitter, 'submit', 'call');
  listen(RedisReplyReader, 'read', 'read answers', 'got answers');
  listen(RedisCallReader, 'read', 'read calls', 'got calls');
  listen(RedisOutcomeWriter, 'conclude', 'answer');
  return log;
}

/** Some calls, each made when the one before is answered; each time these things happened, in their order. */
async function inTurn(names: readonly string[]): Promise<string[]> {
  const log = logged();
  const app = await fleet.start({ providers: [hosting('work', () => 1)] });
  const registry = app.get(EnhancedFunctionRegistry);
  for (let n = 0; n < CALLS; n += 1) await registry.call('work');
  const own = log.filter((name) => names.includes(name));
  const first = own.indexOf(names[0] ?? '');
  return own.slice(first, first + names.length * (CALLS - 2));
}

describe('what is decided in the tick in which something was read goes to Redis before the next read', () => {
  it.each([
    ['answers', ['got calls', 'answer', 'read calls']],
    ['calls', ['got answers', 'call', 'read answers']],
  ])('%s', async (_title, names) => {
    const expected = Array.from({ length: CALLS - 2 }, () => names).flat();
    expect(await inTurn(names)).toEqual(expected);
  });
});
