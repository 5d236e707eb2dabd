import { describe, expect, it, jest } from '@jest/globals';
import { callIsolated, TypedEvents } from '../../src/common/typed-events.js';
import { createDeferred } from '../../src/common/deferred.js';

interface Events {
  opened: { readonly at: number };
  closed: { readonly reason: string };
}

function setUp(): {
  events: TypedEvents<Events>;
  errors: [PropertyKey, unknown][];
  heard: string[];
} {
  const errors: [PropertyKey, unknown][] = [];
  return {
    events: new TypedEvents<Events>((event, error) => errors.push([event, error])),
    errors,
    heard: [],
  };
}

describe('typed events', () => {
  it('reach the listeners of that event, in the order they were added', () => {
    const { events, heard } = setUp();
    events.on('opened', ({ at }) => heard.push(`first ${at}`));
    events.on('opened', ({ at }) => heard.push(`second ${at}`));
    events.on('closed', () => heard.push('other'));
    events.emit('opened', { at: 7 });
    expect(heard).toEqual(['first 7', 'second 7']);
  });

  it('may have no listener', () => {
    expect(() => setUp().events.emit('opened', { at: 1 })).not.toThrow();
  });

  it('reach the next listener when one throws, and the error is told', () => {
    const { events, errors, heard } = setUp();
    const failure = new Error('bad listener');
    events.on('opened', () => {
      throw failure;
    });
    events.on('opened', () => heard.push('second'));
    events.emit('opened', { at: 1 });
    expect({ heard, errors }).toEqual({ heard: ['second'], errors: [['opened', failure]] });
  });

  it('tell the error of a listener that rejects', async () => {
    const failure = new Error('late');
    const told = createDeferred<unknown>();
    const events = new TypedEvents<Events>((_, error) => told.resolve(error));
    events.on('opened', () => Promise.reject(failure));
    events.emit('opened', { at: 1 });
    await expect(told.promise).resolves.toBe(failure);
  });

  it('no longer reach a listener that was removed, however often it is removed', () => {
    const { events, heard } = setUp();
    const dispose = events.on('opened', () => heard.push('gone'));
    dispose();
    dispose();
    events.emit('opened', { at: 1 });
    expect(heard).toEqual([]);
  });

  it('reach a function twice that was added twice, and once when one of both was removed', () => {
    const { events } = setUp();
    const listener = jest.fn();
    events.on('opened', listener);
    const dispose = events.on('opened', listener);
    events.emit('opened', { at: 1 });
    dispose();
    dispose();
    events.emit('opened', { at: 2 });
    expect(listener).toHaveBeenCalledTimes(3);
  });

  it('reach everyone who listened when they were emitted, whoever leaves or comes meanwhile', () => {
    const { events, heard } = setUp();
    const leave = events.on('opened', () => {
      leave();
      events.on('opened', () => heard.push('late'));
      heard.push('first');
    });
    events.on('opened', () => heard.push('second'));
    events.emit('opened', { at: 1 });
    expect(heard).toEqual(['first', 'second']);
  });

  it('reach nobody after they were cleared', () => {
    const { events, heard } = setUp();
    events.on('opened', () => heard.push('gone'));
    events.clear();
    events.emit('opened', { at: 1 });
    expect(heard).toEqual([]);
  });
});

describe('an isolated task', () => {
  it('has its error told and thrown to nobody', () => {
    const told: unknown[] = [];
    callIsolated(
      () => {
        throw new Error('x');
      },
      (error) => told.push(error),
    );
    expect(told).toEqual([new Error('x')]);
  });
});
