import { describe, expect, it } from '@jest/globals';
import {
  NO_RECORD,
  parseCircuitNotification,
  parseCircuitRecord,
} from '../../src/protocol/circuit.js';
import { functionRef } from '../../src/protocol/function-ref.js';

const RECORD = { generation: 7, state: 'open', since: 5, retryAt: 9, reason: 'failure-rate' };
const REF = functionRef('a:b', 'c');
const NEWS = { type: 'circuit', functionName: 'a:b', workflowId: 'c', timestamp: 6, ...RECORD };
const packet = (data: unknown): string => JSON.stringify({ pattern: 'x', data });

describe("a circuit's record", () => {
  it('is read, without what this version does not know', () => {
    expect(parseCircuitRecord(JSON.stringify({ ...RECORD, later: 1 }))).toEqual(RECORD);
    expect(parseCircuitRecord('')).toBe(NO_RECORD);
  });

  it.each([
    ['no JSON', '{'],
    ['no object', '[]'],
    ['a state of a later version', { ...RECORD, state: 'throttled' }],
    ['no generation', { ...RECORD, generation: undefined }],
    ['a generation without an end', '{"generation":1e400,"state":"open","since":1}'],
    ['a negative time', { ...RECORD, since: -1 }],
    ['a time that is text', { ...RECORD, retryAt: '9' }],
    ['half-open without an end', { ...RECORD, state: 'half-open', retryAt: undefined }],
    ['a reason that is none', { ...RECORD, reason: 7 }],
    ['a prober that is none', { ...RECORD, prober: {} }],
  ])('is refused with %s', (_title, value) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    expect(parseCircuitRecord(text)).toEqual({ malformed: expect.any(String) });
  });
});

describe('the news of a circuit', () => {
  it('are read', () => {
    expect(parseCircuitNotification(REF, packet({ ...NEWS, later: 1 }))).toEqual(NEWS);
  });

  it.each([
    ['too long', packet({ ...NEWS, reason: 'x'.repeat(70_000) })],
    ['no packet', JSON.stringify(NEWS)],
    ['no object', packet([])],
    ['of another type', packet({ ...NEWS, type: 'ready' })],
    ['of another function', packet({ ...NEWS, functionName: 'b' })],
    ['without a timestamp', packet({ ...NEWS, timestamp: undefined })],
    ['of a state that is not known', packet({ ...NEWS, state: 'x' })],
  ])('are refused when they are %s', (_title, text) => {
    expect(parseCircuitNotification(REF, text)).toEqual({ malformed: expect.any(String) });
  });
});
