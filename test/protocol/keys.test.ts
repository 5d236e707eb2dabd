import { describe, expect, it } from '@jest/globals';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys, NOTIFICATION_TYPES, parseFunctionId } from '../../src/protocol/keys.js';
import { Random } from '../harness/random.js';

const ref = functionRef('resize', 'media');

/** What a Cluster hashes of a key: the part between the first `{` and the next `}`, when there is any. */
function hashTag(key: string): string {
  const from = key.indexOf('{');
  const to = key.indexOf('}', from + 1);
  return from >= 0 && to > from + 1 ? key.slice(from + 1, to) : key;
}

describe('channels', () => {
  it.each([
    ['ready', 'function:ready:resize:media'],
    ['shutdown', 'function:shutdown:resize:media'],
    ['offline', 'function:offline:resize:media'],
    ['health', 'worker:health:resize:media'],
  ] as const)('of %s are named %s', (type, channel) => {
    expect(new Keys('').channel(type, ref)).toBe(channel);
  });

  it('have the prefix in front', () => {
    expect(new Keys('tenant-a:').channel('ready', ref)).toBe(
      'tenant-a:function:ready:resize:media',
    );
  });

  it('of a function are four', () => {
    expect(new Keys('p:').channels(ref)).toEqual([
      'p:function:ready:resize:media',
      'p:function:shutdown:resize:media',
      'p:function:offline:resize:media',
      'p:worker:health:resize:media',
    ]);
  });

  it.each([
    ['resize', 'media'],
    ['a:b', 'c'],
    ['a', 'b:c'],
    ['{x}', '*?[a]'],
    ['100%', 'a b\n'],
    ['ship🚀', '画像'],
  ])('tell the function that they are about: %j in %j', (functionName, workflowId) => {
    const about = functionRef(functionName, workflowId);
    for (const prefix of ['', 'tenant-a:', 'function:ready:', 'we*rd{']) {
      const keys = new Keys(prefix);
      const parsed = NOTIFICATION_TYPES.map((type) => keys.parseChannel(keys.channel(type, about)));
      expect(parsed).toEqual(NOTIFICATION_TYPES.map((type) => ({ type, ref: about })));
    }
  });

  it('tell the function that they are about, whatever its names hold', () => {
    const random = new Random(4);
    const pieces = [...':{}[]*?\\% \n', 'a', 'b', 'ready', '😀', '%3A'];
    const keys = new Keys('p:');
    for (let run = 0; run < 2_000; run += 1) {
      const about = functionRef(random.text(pieces, 5), random.text(pieces, 5));
      expect(keys.parseChannel(keys.channel('offline', about))).toEqual({
        type: 'offline',
        ref: about,
      });
    }
  });

  it.each([
    ['another application', 'orders:created'],
    ['another prefix', 'tenant-b:function:ready:resize:media'],
    ['no prefix', 'function:ready:resize:media'],
    ['an unknown kind', 'p:function:started:resize:media'],
    ['one name only', 'p:function:ready:resize'],
    ['three names', 'p:function:ready:resize:media:eu'],
    ['an empty name', 'p:function:ready::media'],
    ['an encoding that is not ours', 'p:function:ready:%61:media'],
    ['a broken encoding', 'p:function:ready:%:media'],
    ['a name that is too long', `p:function:ready:${'x'.repeat(300)}:media`],
  ])('that are not ours are told apart: %s', (_, channel) => {
    expect(new Keys('p:').parseChannel(channel)).toBeUndefined();
  });
});

describe('keys', () => {
  const keys = new Keys('p:');
  const ofFunction = [
    keys.calls(ref),
    keys.workers(ref),
    keys.definition(ref),
    keys.deadLetters(ref),
    keys.lastEpoch(ref),
  ];
  const ofProcess = [keys.lease('host-1.1'), keys.hosted('host-1.1'), keys.replies('host-1.1')];
  const all = [
    ...ofFunction,
    ...ofProcess,
    keys.control('host-1.1'),
    keys.processes(),
    keys.supervisor(),
    keys.workflow('media'),
  ];

  it('of one function share one hash tag', () => {
    expect(new Set(ofFunction.map(hashTag))).toEqual(new Set(['resize:media']));
  });

  it('of one function share one hash tag when its names hold braces', () => {
    const odd = functionRef('a}b', '{c');
    const tags = [keys.calls(odd), keys.workers(odd), keys.definition(odd), keys.deadLetters(odd)];
    expect(new Set(tags.map(hashTag))).toEqual(new Set(['a%7Db:%7Bc']));
  });

  it('of one process share one hash tag', () => {
    expect(new Set(ofProcess.map(hashTag))).toEqual(new Set(['host-1.1']));
  });

  it('all have the prefix in front', () => {
    expect(all.filter((key) => !key.startsWith('p:nf:'))).toEqual([]);
  });

  it('are all different', () => {
    expect(new Set(all).size).toBe(all.length);
  });
});

describe('a pattern of the application', () => {
  it('gets the prefix in front', () => {
    expect(new Keys('p:').prefixedPattern('function:ready:*')).toBe('p:function:ready:*');
  });

  it('does not let the prefix match anything but itself', () => {
    expect(new Keys('t*[1]?\\:').prefixedPattern('a*')).toBe('t\\*\\[1\\]\\?\\\\:a*');
  });
});

describe('a function id', () => {
  it('gives the function back', () => {
    expect(parseFunctionId(functionRef('a:b', 'c').id)).toEqual(functionRef('a:b', 'c'));
  });

  it.each(['', ':', 'a', 'a:', ':b', 'a:b:c', '%:b', 'a:%zz'])('is not %j', (text) => {
    expect(parseFunctionId(text)).toBeUndefined();
  });
});
