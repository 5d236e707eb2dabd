import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { NotificationManager } from '../../src/index.js';
import { encodeName } from '../../src/protocol/function-ref.js';
import { Fleet } from '../harness/apps.js';

const fleet = new Fleet();
let notifications: NotificationManager;

beforeAll(async () => {
  notifications = (await fleet.start({ options: { worker: false } })).get(NotificationManager);
});
afterAll(() => fleet.close());

const listener = (): void => undefined;
const NO_CHANNELS: readonly (readonly [string, unknown])[] = [
  ['nothing', undefined],
  ['null', null],
  ['an empty name', ''],
  ['a number', 5],
  ['an object', {}],
  ['a name of 1 MB', 'x'.repeat(1_000_000)],
];
const METHODS: readonly (readonly [string, (channel: never) => Promise<unknown>])[] = [
  ['publish', (channel) => notifications.publish(channel, 1)],
  ['subscribe', (channel) => notifications.subscribe(channel, listener)],
  ['subscribePattern', (pattern) => notifications.subscribePattern(pattern, listener)],
  ['subscribeAll', (channel) => notifications.subscribeAll(['a', channel], listener)],
  ['unsubscribe', (channel) => notifications.unsubscribe(channel)],
  ['unsubscribePattern', (pattern) => notifications.unsubscribePattern(pattern)],
];

describe.each(METHODS)('NotificationManager.%s', (_method, run) => {
  it.each(NO_CHANNELS)(
    'refuses %s, with a typed error and before anything is sent',
    async (_, channel) => {
      const before = notifications.stats();
      const error: unknown = await run(channel as never).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect((error as Error).message.length).toBeLessThan(300);
      expect(notifications.stats()).toEqual(before);
    },
  );
});

describe('a subscription', () => {
  it.each([undefined, null, 'x', {}])('is refused without a listener: %j', async (given) => {
    const none = given as never;
    const before = notifications.stats().listeners;
    for (const subscribe of [
      () => notifications.subscribe('a', none),
      () => notifications.subscribePattern('a*', none),
      () => notifications.subscribeAll(['a', 'b'], none),
    ]) {
      await expect(subscribe()).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        details: { argument: 'listener' },
      });
    }
    expect(notifications.stats().listeners).toBe(before);
  });

  it.each([undefined, 'a', {}])('is refused to what is no list of channels: %j', async (given) => {
    await expect(notifications.subscribeAll(given as never, listener)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      details: { argument: 'channels' },
    });
  });

  it('is made to the longest channel that a function can have', async () => {
    const name = encodeName('\u3000'.repeat(256));
    const channel = `function:ready:${name}:${name}`;
    expect(channel.length).toBeGreaterThan(4_000);
    const subscription = await notifications.subscribe(channel, listener);
    await expect(notifications.publish(channel, {})).resolves.toBe(1);
    await subscription.unsubscribe();
  });
});
