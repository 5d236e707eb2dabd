import assert from 'node:assert/strict';
import type { ConformanceCase } from './conformance-case.js';
import { portCases } from './scene.js';

const message = (type: string): string => JSON.stringify({ pattern: 'x', data: { type } });

export const newsCases: readonly ConformanceCase[] = [
  ...portCases('No missed wake-up', {
    'a subscription that is acknowledged hears everything from then on, in its order': async (
      scene,
    ) => {
      const { keys } = scene;
      const listener = await scene.member();
      const speaker = await scene.member();
      const channel = `${keys.prefix}news`;
      await listener.backend.bus.subscribe([channel]);
      const types = Array.from({ length: 50 }, (_, index) => `m${index}`);
      await Promise.all(types.map((type) => speaker.backend.bus.publish(channel, message(type))));
      await listener.news.message(channel, 'm49');
      assert.deepEqual(
        listener.news.heard.map(({ data }) => data['type']),
        types,
      );
    },

    'a message goes to each subscriber once, and its receivers are counted': async (scene) => {
      const { keys } = scene;
      const channel = `${keys.prefix}news`;
      const one = await scene.member();
      const other = await scene.member();
      assert.equal(await one.backend.bus.publish(channel, message('nobody')), 0);
      await one.backend.bus.subscribe([channel, `${keys.prefix}other`]);
      await one.backend.bus.subscribe([channel]);
      await other.backend.bus.subscribe([channel]);
      assert.equal(await one.backend.bus.publish(channel, message('both')), 2);
      await other.backend.bus.unsubscribe([channel]);
      assert.equal(await one.backend.bus.publish(channel, message('end')), 1);
      await one.news.message(channel, 'end');
      const heardBy = (member: typeof one): unknown[] =>
        member.news.heard.map(({ data }) => data['type']);
      assert.deepEqual(heardBy(one), ['both', 'end']);
      assert.deepEqual(heardBy(other), ['both']);
    },

    'a pattern hears the channels that fit it, and its own characters mean themselves': async (
      scene,
    ) => {
      const { keys } = scene;
      const { backend, news } = await scene.member();
      const p = keys.prefix;
      await backend.bus.psubscribe([`${p}a:*`, `${p}b?[x-z]`, `${p}c\\*`, `${p}d[^1]`]);
      const heard = ['a:', 'a:b:c', 'b1y', 'c*', 'd2'];
      const missed = ['a', 'b1w', 'b1', 'cc', 'd1', 'xa:'];
      for (const name of [...missed, ...heard]) await backend.bus.publish(p + name, message(name));
      await news.message(`${p}d2`, 'd2');
      assert.deepEqual(
        news.heard.map(({ channel }) => channel.slice(p.length)),
        heard,
      );
      assert.equal(news.heard[0]?.pattern, `${p}a:*`);
      await backend.bus.punsubscribe([`${p}a:*`]);
      assert.equal(await backend.bus.publish(`${p}a:b`, message('after')), 0);
    },

    'news of another key prefix are not heard': async (scene) => {
      const { backend, news } = await scene.member();
      const { ref, keys } = scene;
      await backend.bus.subscribe(keys.channels(ref));
      assert.equal(await backend.bus.publish(`other-${keys.channel('ready', ref)}`, '{}'), 0);
      assert.deepEqual(news.heard, []);
    },
  }),

  ...portCases('Bounded', {
    'health is asked for exactly while somebody listens': async (scene) => {
      const { keys } = scene;
      const { backend } = await scene.member();
      const listener = await scene.member();
      const channels = ['one', 'two'].map((name) => `${keys.prefix}${name}`);
      const [one = '', two = ''] = channels;
      await listener.backend.bus.subscribe([two]);
      const heard = await backend.bus.heard(channels);
      // Where others listen to patterns on the same server all channels count as heard.
      assert.ok(heard.includes(two), 'a channel that has a subscriber');
      await listener.backend.bus.psubscribe([`${keys.prefix}*`]);
      assert.deepEqual(await backend.bus.heard(channels), [one, two]);
      assert.deepEqual(await backend.bus.heard([]), []);
    },
  }),
];
