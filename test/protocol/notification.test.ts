import { describe, expect, it } from '@jest/globals';
import { functionRef } from '../../src/protocol/function-ref.js';
import type { NotificationType } from '../../src/protocol/keys.js';
import {
  isMalformed,
  MAX_NOTIFICATION_LENGTH,
  parseNotification,
  parsePacket,
} from '../../src/protocol/notification.js';

const ref = functionRef('resize', 'media');
const base = {
  functionName: 'resize',
  workflowId: 'media',
  workerId: 'w1',
  epoch: 5,
  seq: 2,
  timestamp: 1_700_000_000_000,
};
const data: Record<NotificationType, Record<string, unknown>> = {
  ready: { ...base, type: 'ready', processId: 'p', definition: 'abc', healthy: true },
  shutdown: { ...base, type: 'shutdown', estimatedDowntimeMs: 2_000 },
  offline: { ...base, type: 'offline', reason: 'process_died' },
  health: { ...base, type: 'health', healthy: false, reason: 'timeout' },
};

const packet = (value: unknown): string => JSON.stringify({ pattern: 'any', data: value });
const parse = (type: NotificationType, text: string): unknown =>
  parseNotification({ type, ref }, text);
const without = (type: NotificationType, field: string): Record<string, unknown> =>
  Object.fromEntries(Object.entries(data[type]).filter(([name]) => name !== field));

describe('a packet', () => {
  it('is what Nest sends: pattern and data', () => {
    expect(parsePacket('{"pattern":"a","data":{"b":1}}')).toEqual({ pattern: 'a', data: { b: 1 } });
  });

  it('may have null as its data', () => {
    expect(parsePacket('{"pattern":"a","data":null}')).toEqual({ pattern: 'a', data: null });
  });

  it.each([
    ['empty', ''],
    ['not JSON', 'hello'],
    ['null', 'null'],
    ['an array', '[]'],
    ['a string', '"x"'],
    ['without data', '{"pattern":"a"}'],
    ['without a pattern', '{"data":1}'],
    ['one that would pollute', '{"pattern":"a","data":{"__proto__":{"x":1}}}'],
  ])('is refused when it is %s', (_, text) => {
    expect(isMalformed(parsePacket(text))).toBe(true);
  });
});

describe('a notification', () => {
  it.each(['ready', 'shutdown', 'offline', 'health'] as const)(
    'of %s comes back as it was sent',
    (type) => {
      expect(parse(type, packet(data[type]))).toEqual(data[type]);
    },
  );

  it('may hold more than this version knows', () => {
    expect(parse('ready', packet({ ...data.ready, region: 'eu' }))).toMatchObject({ region: 'eu' });
  });

  it.each([
    ['empty text', 'ready', '', 'not JSON'],
    ['no JSON', 'ready', '{"pattern":', 'not JSON'],
    ['no packet', 'ready', JSON.stringify(data.ready), 'not a Nest packet'],
    ['data that is text', 'ready', packet('ready'), 'data is not an object'],
    ['data that is a list', 'ready', packet([data.ready]), 'data is not an object'],
    ['no data', 'ready', packet(null), 'data is not an object'],
    ['another type', 'ready', packet(data.offline), 'type is not ready'],
    ['no type', 'ready', packet(without('ready', 'type')), 'type is not ready'],
    ['another function', 'ready', packet({ ...data.ready, functionName: 'x' }), 'another function'],
    ['another workflow', 'ready', packet({ ...data.ready, workflowId: 'x' }), 'another function'],
    ['no worker', 'ready', packet(without('ready', 'workerId')), 'workerId is missing'],
    ['an empty worker', 'ready', packet({ ...data.ready, workerId: '' }), 'workerId is missing'],
    ['a worker by number', 'ready', packet({ ...data.ready, workerId: 7 }), 'workerId is missing'],
    ['no epoch', 'ready', packet(without('ready', 'epoch')), 'epoch is not a number'],
    ['an epoch as text', 'ready', packet({ ...data.ready, epoch: '5' }), 'epoch is not a number'],
    ['a negative epoch', 'ready', packet({ ...data.ready, epoch: -1 }), 'epoch is not a number'],
    ['no seq', 'ready', packet(without('ready', 'seq')), 'seq is not a number'],
    ['a seq of null', 'ready', packet({ ...data.ready, seq: null }), 'seq is not a number'],
    ['no time', 'ready', packet(without('ready', 'timestamp')), 'timestamp is not a number'],
    [
      'no estimate',
      'shutdown',
      packet(without('shutdown', 'estimatedDowntimeMs')),
      'estimatedDowntimeMs is not a number',
    ],
    ['no reason', 'offline', packet(without('offline', 'reason')), 'reason is not a string'],
    ['no health', 'health', packet(without('health', 'healthy')), 'healthy is not a boolean'],
    [
      'health as text',
      'health',
      packet({ ...data.health, healthy: 'yes' }),
      'healthy is not a boolean',
    ],
    ['a way to pollute', 'ready', '{"pattern":"a","data":{"__proto__":{}}}', 'not JSON'],
    ['a huge text', 'ready', ' '.repeat(MAX_NOTIFICATION_LENGTH + 1), 'at most are allowed'],
  ] as const)('is refused, with what is wrong, for %s', (_, type, text, problem) => {
    expect(parse(type, text)).toEqual({ malformed: expect.stringContaining(problem) });
  });

  it.each([
    ['a health of ready that is no boolean', 'ready', { healthy: 'no' }, 'healthy'],
    ['a definition that is no text', 'ready', { definition: 7 }, 'definition'],
    ['a reason that is no text', 'health', { reason: { a: 1 } }, 'reason'],
  ] as const)('is refused when it may leave a field out but has %s', (_, type, extra, field) => {
    expect(parse(type, packet({ ...data[type], ...extra }))).toEqual({
      malformed: expect.stringContaining(field),
    });
  });

  it('may leave out what is optional', () => {
    const { type, ...rest } = { ...base, type: 'ready' };
    expect(parse('ready', packet({ type, ...rest }))).toEqual({ type, ...rest });
  });
});
