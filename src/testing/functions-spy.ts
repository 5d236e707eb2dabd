import { createDeferred } from '../common/deferred.js';
import { InvalidArgumentError } from '../common/errors.js';
import { show } from '../common/text.js';
import { callIsolated } from '../common/typed-events.js';
import { withinReal } from './real-time.js';
import { describeHistory } from './spy-history.js';
import { describeSelector, matches, type Selector } from './selector.js';
import {
  SPY_EVENT_NAMES,
  type SpyEventName,
  type SpyEvents,
  type SpyRecord,
} from './spy-events.js';

/** How often, and how long, to wait. */
export interface SpyWaitOptions {
  /** The how manieth of those that match; default 1. */
  readonly times?: number;
  /** Real milliseconds, whatever the fleet's clock does; default 2 000. */
  readonly timeoutMs?: number;
}

/** {@link FunctionsSpy.waitFor} waited in vain; the message says what happened instead. */
export class SpyTimeoutError extends Error {
  override readonly name = 'SpyTimeoutError';
}

interface Waiter {
  look(): void;
  fail(error: Error): void;
}

const DEFAULT_TIMEOUT_MS = 2_000;
/** A test that does more is none; the oldest go. */
const KEPT = 20_000;

/**
 * Sees what happens in a fleet: news of workers, calls and their outcomes, runs of handlers. It is nobody's listener,
 * so nothing is told for its sake.
 *
 * @example
 * ```ts
 * await fleet.spy.waitFor('ready', 'resize');
 * const { parameters } = await fleet.spy.waitFor('called', { functionName: 'resize', parameters: { width: 80 } });
 * expect(fleet.spy.of('settled')).toHaveLength(1);
 * ```
 */
export class FunctionsSpy {
  private readonly records: SpyRecord[] = [];
  private readonly waiters = new Set<Waiter>();

  /** @param now the fleet's clock */
  constructor(
    private readonly now: () => number,
    /** What a wait in vain may be due to. */
    private readonly hint: () => string = () => '',
  ) {}

  /** All that happened since the start, or the last {@link clear}. */
  get history(): readonly SpyRecord[] {
    return this.records;
  }

  /**
   * Resolves with the first event that matches, also when it has happened already (since the last {@link clear}).
   *
   * @throws SpyTimeoutError nothing matched in time; it says what happened
   * @throws InvalidArgumentError
   */
  async waitFor<K extends SpyEventName>(
    name: K,
    selector?: Selector<SpyEvents[K]>,
    options: SpyWaitOptions = {},
  ): Promise<SpyEvents[K]> {
    const { times = 1, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    assertEvent(name);
    assertTimes(times);
    const find = (): SpyEvents[K] | undefined => this.of(name, selector)[times - 1];
    const found = find();
    if (found !== undefined) return found;
    const wanted = `${times === 1 ? `no '${name}'` : `not ${times} times '${name}'`}${describeSelector(selector)}`;
    return this.wait(find, timeoutMs, () => this.inVain(`${wanted} within ${timeoutMs} ms`));
  }

  /** What happened of one kind, in its order. */
  of<K extends SpyEventName>(name: K, selector?: Selector<SpyEvents[K]>): SpyEvents[K][] {
    assertEvent(name);
    const events = this.records.filter((record) => record.name === name);
    return events
      .map(({ event }) => event as SpyEvents[K])
      .filter((event) => matches(event, selector));
  }

  /** Forgets what happened: between tests that share a fleet. Who waits goes on waiting. */
  clear(): void {
    this.records.length = 0;
  }

  /** @internal Notes what happened. */
  note<K extends SpyEventName>(name: K, event: SpyEvents[K]): void {
    const record = { name, event, at: this.now() } as SpyRecord;
    this.records.push(record);
    if (this.records.length > KEPT) this.records.shift();
    for (const waiter of [...this.waiters]) waiter.look();
  }

  /** @internal Nothing more will happen. */
  close(): void {
    for (const waiter of [...this.waiters])
      waiter.fail(this.inVain('the fleet was closed while a test waited'));
  }

  private async wait<T>(
    find: () => T | undefined,
    timeoutMs: number,
    inVain: () => Error,
  ): Promise<T> {
    const outcome = createDeferred<T>();
    const look = (): void => {
      const found = find();
      if (found !== undefined) outcome.resolve(found);
    };
    // A selector of the test that throws is the waiting test's affair, and not that of the fleet.
    const fail = (error: unknown): void => outcome.reject(error);
    const waiter: Waiter = { look: () => callIsolated(look, fail), fail };
    this.waiters.add(waiter);
    try {
      return await withinReal(timeoutMs, outcome.promise, inVain);
    } finally {
      this.waiters.delete(waiter);
    }
  }

  private inVain(what: string): SpyTimeoutError {
    return new SpyTimeoutError(`${what}.${this.hint()}\n${describeHistory(this.records)}`);
  }
}

function assertEvent(name: SpyEventName): void {
  if (SPY_EVENT_NAMES.includes(name)) return;
  throw new InvalidArgumentError('event', show(name), `one of ${SPY_EVENT_NAMES.join(', ')}`);
}

function assertTimes(times: number): void {
  if (Number.isInteger(times) && times >= 1) return;
  throw new InvalidArgumentError('times', show(times), 'a whole number, 1 or more');
}
