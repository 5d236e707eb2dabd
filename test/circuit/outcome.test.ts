import { describe, expect, it } from '@jest/globals';
import { outcomeOf, type Outcome } from '../../src/circuit/outcome.js';
import { NOT_WRITTEN } from '../../src/common/errors.js';
import {
  BackendRefusedError,
  BackendUnavailableError,
  BacklogFullError,
  CallCancelledError,
  ClosedError,
  DeadlineExceededError,
  InvalidParametersError,
  MaxDeliveriesError,
  NoWorkerError,
  OutcomeUnknownError,
  PayloadTooLargeError,
  ReadinessTimeoutError,
  RemoteFunctionError,
  WorkerLostError,
} from '../../src/index.js';

const FN = ['work', 'default'] as const;
const fromHandler = (code: string, retryable = false): RemoteFunctionError =>
  new RemoteFunctionError(...FN, 'c', 'w', { code, message: 'm', retryable });

const TABLE: readonly (readonly [title: string, error: unknown, outcome: Outcome])[] = [
  ['a lost worker', new WorkerLostError('lost', {}), 'failure'],
  ['a call that killed its workers', new MaxDeliveriesError('killed', {}), 'failure'],
  ['a deadline', new DeadlineExceededError(...FN, 5, 'no worker finished it in time'), 'failure'],
  ['a deadline without Redis', new DeadlineExceededError(...FN, 5, NOT_WRITTEN), 'nothing'],
  ['a cancellation', new CallCancelledError(...FN), 'nothing'],
  ['nobody there', new NoWorkerError(...FN, 'none'), 'nothing'],
  ['nobody came', new ReadinessTimeoutError(...FN, 5, 'none'), 'nothing'],
  ['a full backlog', new BacklogFullError(...FN, 1, 1), 'nothing'],
  ['Redis away', new BackendUnavailableError('x', 'y'), 'nothing'],
  ['Redis refusing', new BackendRefusedError('x', 'y', 'NOPERM'), 'nothing'],
  ['an unknown outcome', new OutcomeUnknownError(...FN, undefined), 'nothing'],
  ['a shutdown', new ClosedError('The caller'), 'nothing'],
  ['wrong parameters', new InvalidParametersError(...FN, []), 'nothing'],
  ['too large a payload', new PayloadTooLargeError('x', 2, 1), 'nothing'],
  ['what is none of the library', new TypeError('x'), 'nothing'],
  ['a handler that threw', fromHandler('HANDLER_FAILED'), 'failure'],
  ['a handler that says it may pass', fromHandler('BUSY', true), 'failure'],
  ['a handler whose socket failed', fromHandler('ECONNREFUSED'), 'failure'],
  ['a handler whose host has no address', fromHandler('ENOTFOUND'), 'failure'],
  ['a handler of which Node complains', fromHandler('ERR_STREAM_DESTROYED'), 'failure'],
  ['a handler that answers 500', fromHandler('HTTP_500'), 'failure'],
  ['a handler that answers 429', fromHandler('HTTP_429'), 'failure'],
  ['a handler that answers 404', fromHandler('HTTP_404'), 'success'],
  ['a handler with an answer of its own', fromHandler('IMAGE_BROKEN'), 'success'],
  ['a handler with one that begins like a system error', fromHandler('EXPIRED'), 'success'],
  ['refused input', fromHandler('INVALID_INPUT'), 'nothing'],
  ['parameters that a worker refused', fromHandler('INVALID_PARAMETERS'), 'nothing'],
  ['an entry of another version', fromHandler('MALFORMED_CALL'), 'nothing'],
];

describe('what a call says about its function', () => {
  it.each(TABLE)('%s', (_title, error, outcome) => {
    expect(outcomeOf(error, undefined)).toBe(outcome);
  });

  it('is what the application says, where it says something', () => {
    const isFailure = ({ code }: { code?: string } & Error): boolean | undefined =>
      code === 'IMAGE_BROKEN' ? true : code === 'HANDLER_FAILED' ? false : undefined;
    expect(outcomeOf(fromHandler('IMAGE_BROKEN'), isFailure)).toBe('failure');
    expect(outcomeOf(fromHandler('HANDLER_FAILED'), isFailure)).toBe('nothing');
    expect(outcomeOf(fromHandler('HTTP_500'), isFailure)).toBe('failure');
    expect(outcomeOf(fromHandler('HTTP_404'), () => false)).toBe('success');
    const throwing = (): never => {
      throw new Error('a bug');
    };
    expect(outcomeOf(fromHandler('HTTP_500'), throwing)).toBe('failure');
  });
});
