import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { DeadLetters, EnhancedFunctionRegistry } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

/** A function with `count` calls that were given up. */
async function withLetters(count: number) {
  const seen: unknown[] = [];
  let broken = true;
  const work = hosting(
    { name: 'work', retry: { maxAttempts: 2, backoffMs: 0 } },
    (input, context) => {
      if (broken) throw new Error('broken');
      seen.push([input, context.item, context.attempt]);
    },
  );
  const app = await fleet.start({ providers: [work] });
  const registry = app.get(EnhancedFunctionRegistry);
  for (let n = 0; n < count; n += 1)
    await registry.call('work', { n }, { item: { row: n } }).catch(() => undefined);
  return { letters: app.get(DeadLetters), seen, mend: () => (broken = false) };
}

describe('dead letters', () => {
  it('are listed oldest first, page by page, with what was called and why it was given up', async () => {
    const { letters } = await withLetters(3);
    await expect(letters.count('work', 'default')).resolves.toBe(3);
    const first = await letters.list('work', 'default', { limit: 2 });
    expect(first.map(({ parameters }) => parameters)).toEqual([{ n: 0 }, { n: 1 }]);
    const rest = await letters.list('work', 'default', { after: first[1]!.id });
    expect(rest).toEqual([
      expect.objectContaining({
        reason: 'RETRIES_EXHAUSTED',
        attempts: 2,
        parameters: { n: 2 },
        item: { row: 2 },
        headers: {},
      }),
    ]);
    expect(rest[0]?.failures).toMatchObject([
      { attempt: 1, code: 'HANDLER_FAILED', message: 'broken' },
      { attempt: 2, code: 'HANDLER_FAILED', message: 'broken' },
    ]);
    expect(rest[0]!.givenUpAt).toBeGreaterThanOrEqual(rest[0]!.submittedAt);
  });

  it('run again when they are retried, as a first attempt, and are gone then', async () => {
    const { letters, seen, mend } = await withLetters(2);
    mend();
    const [first] = await letters.list('work', 'default');
    await expect(letters.retry('work', 'default', first!.id)).resolves.toBe(true);
    await eventually('it ran', () => expect(seen).toEqual([[{ n: 0 }, { row: 0 }, 1]]));
    await expect(letters.retry('work', 'default', first!.id)).resolves.toBe(false);
    await expect(letters.count('work', 'default')).resolves.toBe(1);
  });

  it('come back when they fail again, with the history of both', async () => {
    const { letters } = await withLetters(1);
    await expect(letters.retryAll('work', 'default')).resolves.toBe(1);
    const [letter] = await eventually('it is given up again', async () => {
      const all = await letters.list('work', 'default');
      expect(all).toHaveLength(1);
      return all;
    });
    expect(letter?.failures.map(({ attempt }) => attempt)).toEqual([1, 2, 1, 2]);
  });

  it('are all retried at once, or removed', async () => {
    const { letters, seen, mend } = await withLetters(3);
    const [first, ...others] = await letters.list('work', 'default');
    await expect(letters.remove('work', 'default', first!.id)).resolves.toBe(1);
    await expect(letters.remove('work', 'default', [first!.id])).resolves.toBe(0);
    mend();
    await expect(letters.retryAll('work', 'default')).resolves.toBe(2);
    await eventually('both ran', () => expect(seen).toHaveLength(2));
    expect(others).toHaveLength(2);
    await expect(letters.count('work', 'default')).resolves.toBe(0);
  });

  it('tell of lost workers, too, and the caller of the call is told', async () => {
    const stage = new Stage();
    const app = await fleet.start({
      providers: [stage.as('work')],
      options: { maxDeliveries: 2 },
    });
    const call = app.get(EnhancedFunctionRegistry).call('work', { n: 1 });
    const refused = call.catch((error: unknown) => error);
    await stage.started(1);
    await condemnAll(fleet);
    await stage.started(2);
    await condemnAll(fleet);
    expect(await refused).toMatchObject({ code: 'MAX_DELIVERIES' });
    const [letter] = await app.get(DeadLetters).list('work', 'default');
    expect(letter).toMatchObject({ reason: 'MAX_DELIVERIES', attempts: 2, parameters: { n: 1 } });
    expect(letter?.failures.map(({ code }) => code)).toEqual(['WORKER_LOST', 'WORKER_LOST']);
    stage.finishAll();
  });

  it('of a function that has none are an empty list', async () => {
    const app = await fleet.start();
    const letters = app.get(DeadLetters);
    await expect(letters.list('none', 'default')).resolves.toEqual([]);
    await expect(letters.retryAll('none', 'default')).resolves.toBe(0);
  });

  it('that were written by hand are shown as far as they can be read', async () => {
    const app = await fleet.start();
    await fleet.redis.xadd(`${fleet.prefix}nf:{work:default}:dead`, '*', 'c', '{', 'h', '[1,{}]');
    const [letter] = await app.get(DeadLetters).list('work', 'default');
    expect(letter).toMatchObject({ callId: '', reason: '', parameters: undefined, failures: [{}] });
  });

  it.each([
    ['an id that is none', (letters: DeadLetters) => letters.retry('w', 'd', '*')],
    ['a limit of 0', (letters: DeadLetters) => letters.list('w', 'd', { limit: 0 })],
    [
      'a page that begins nowhere',
      (letters: DeadLetters) => letters.list('w', 'd', { after: 'x' }),
    ],
    ['ids that are none', (letters: DeadLetters) => letters.remove('w', 'd', ['1-1', '2'])],
  ])('refuse %s', async (_, ask) => {
    const app = await fleet.start();
    await expect(ask(app.get(DeadLetters))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
