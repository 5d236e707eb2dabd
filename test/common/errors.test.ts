import { afterAll, describe, expect, it, jest } from '@jest/globals';
import * as errors from '../../src/common/errors.js';

/** The module once more, as a second copy of the package would bring it. */
async function secondCopy(): Promise<typeof errors> {
  let copy: typeof errors | undefined;
  await jest.isolateModulesAsync(async () => {
    copy = await import('../../src/common/errors.js');
  });
  if (copy === undefined) throw new Error('there is no second copy');
  return copy;
}

const { isFunctionsError, NoWorkerError } = errors;

describe('isFunctionsError', () => {
  afterAll(() => {
    jest.resetModules();
  });

  it('knows an error of this copy of the package', () => {
    expect(isFunctionsError(new NoWorkerError('f', 'w', 'none'))).toBe(true);
  });

  it('knows an error of another copy of the package, where instanceof does not', async () => {
    const copy = await secondCopy();
    const foreign = new copy.NoWorkerError('f', 'w', 'none');
    expect(foreign).not.toBeInstanceOf(NoWorkerError);
    expect(isFunctionsError(foreign, 'NO_WORKER')).toBe(true);
    expect(copy.isFunctionsError(new NoWorkerError('f', 'w', 'none'))).toBe(true);
  });

  it('asks for the code when it is given one', () => {
    expect(isFunctionsError(new NoWorkerError('f', 'w', 'none'), 'CLOSED')).toBe(false);
  });

  it('knows an error of the application that extends FunctionError', () => {
    class ImageBroken extends errors.FunctionError {}
    const error = new ImageBroken('IMAGE_BROKEN', 'x');
    expect(isFunctionsError(error, 'IMAGE_BROKEN')).toBe(true);
    expect(error.name).toBe('ImageBroken');
  });

  it.each([
    ['another error', new Error('x')],
    ['an object with a code', { code: 'NO_WORKER', message: 'x' }],
    ['a text', 'NO_WORKER'],
    ['null', null],
    ['nothing', undefined],
  ])('does not take %s for one', (_, value) => {
    expect(isFunctionsError(value)).toBe(false);
  });
});

describe('an error', () => {
  const cause = new Error('below');

  it('carries code, details, retryable and cause', () => {
    const error = new errors.FunctionError('X', 'text', {
      details: { at: 1 },
      retryable: true,
      cause,
    });
    expect(error).toMatchObject({
      code: 'X',
      message: 'text',
      details: { at: 1 },
      retryable: true,
    });
    expect(error.cause).toBe(cause);
  });

  it('is not retryable, and has no details or cause, unless it is said', () => {
    const error = new errors.FunctionError('X', 'text');
    expect(error).toMatchObject({ details: {}, retryable: false });
    expect('cause' in error).toBe(false);
  });

  it('is named after its class', () => {
    expect(new NoWorkerError('f', 'w', 'none').name).toBe('NoWorkerError');
  });

  it("brings the handler's code, message, details and class from the worker", () => {
    const remote = { code: 'X', message: 'm', name: 'ImageBroken', details: { a: 1 }, stack: 's' };
    expect(new errors.RemoteFunctionError('f', 'w', 'c1', 'w1', remote)).toMatchObject({
      code: 'X',
      message: 'm',
      details: { a: 1 },
      retryable: false,
      remoteName: 'ImageBroken',
      remoteStack: 's',
      functionName: 'f',
      workflowId: 'w',
      callId: 'c1',
      workerId: 'w1',
    });
  });
});
