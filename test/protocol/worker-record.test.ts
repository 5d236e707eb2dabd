import { describe, expect, it } from '@jest/globals';
import { parseWorkerRecord } from '../../src/protocol/worker-record.js';

const record = {
  workerId: 'w1',
  processId: 'p1',
  epoch: 5,
  seq: 1,
  status: 'ready',
  timestamp: 7,
  definition: '',
};

describe('a worker record', () => {
  it.each(['ready', 'unhealthy', 'draining'])('is read: %s', (status) => {
    expect(parseWorkerRecord(JSON.stringify({ ...record, status }))).toEqual({ ...record, status });
  });

  it.each([
    ['not JSON', 'x'],
    ['a list', '[]'],
    ['null', 'null'],
    ['without a worker', JSON.stringify({ ...record, workerId: undefined })],
    ['without a process', JSON.stringify({ ...record, processId: undefined })],
    ['without an epoch', JSON.stringify({ ...record, epoch: undefined })],
    ['with a seq that is a word', JSON.stringify({ ...record, seq: '1' })],
    ['without a time', JSON.stringify({ ...record, timestamp: null })],
    ['in an unknown state', JSON.stringify({ ...record, status: 'resting' })],
    ['one that would pollute', '{"__proto__":{}}'],
  ])('is not read when it is %s', (_, text) => {
    expect(parseWorkerRecord(text)).toBeUndefined();
  });
});
