import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { pause, systemClock, within } from '../../src/common/clock.js';
import { createDeferred } from '../../src/common/deferred.js';

describe('the clock', () => {
  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  it('runs a task once, after its time', () => {
    const task = jest.fn();
    systemClock.after(100, task);
    jest.advanceTimersByTime(99);
    expect(task).not.toHaveBeenCalled();
    jest.advanceTimersByTime(500);
    expect(task).toHaveBeenCalledTimes(1);
  });

  it('runs a task again and again until it is cancelled', () => {
    const task = jest.fn();
    const timer = systemClock.every(100, task);
    jest.advanceTimersByTime(350);
    timer.cancel();
    jest.advanceTimersByTime(1_000);
    expect(task).toHaveBeenCalledTimes(3);
  });

  it('pauses for its time', async () => {
    const paused = pause(systemClock, 100);
    jest.advanceTimersByTime(100);
    await expect(paused).resolves.toBeUndefined();
  });

  it('ends a pause when the signal aborts, and leaves no timer', async () => {
    const controller = new AbortController();
    const paused = pause(systemClock, 100, controller.signal);
    controller.abort();
    await paused;
    expect(jest.getTimerCount()).toBe(0);
  });

  it('does not pause when the signal has aborted before', async () => {
    await pause(systemClock, 100, AbortSignal.abort());
    expect(jest.getTimerCount()).toBe(0);
  });

  it('settles as the work does that is done in time, and leaves no timer', async () => {
    const late = (): Error => new Error('late');
    await expect(within(systemClock, 100, Promise.resolve(7), late)).resolves.toBe(7);
    const failure = new Error('no');
    await expect(within(systemClock, 100, Promise.reject(failure), late)).rejects.toBe(failure);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('rejects when the work is not done in time', async () => {
    const never = createDeferred();
    const limited = within(systemClock, 100, never.promise, () => new Error('late'));
    jest.advanceTimersByTime(100);
    await expect(limited).rejects.toThrow('late');
  });
});

describe('a wait that holds the process', () => {
  it('is not cut short because nothing else keeps the process alive', async () => {
    const url = (path: string): string => new URL(`../../${path}`, import.meta.url).href;
    const program = `
      import { holdingProcess, systemClock, within } from '${url('src/common/clock.ts')}';
      const wait = within(systemClock, 20, new Promise(() => undefined), () => new Error('the limit'));
      await holdingProcess(10_000, wait).catch((error) => console.log(error.message));`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...['--import', url('tools/register-ts.mjs'), '--input-type=module', '--eval', program],
    ]);
    expect(stdout).toBe('the limit\n');
  });
});
