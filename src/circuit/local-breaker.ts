import type * as Cockatiel from 'cockatiel';
import type { CircuitBreakerPolicy, SamplingBreaker } from 'cockatiel';
import type { Clock } from '../common/clock.js';
import type { CircuitPolicySettings } from '../common/settings.js';
import type { CircuitState } from '../protocol/circuit.js';
import { outcomeOf } from './outcome.js';

let loading: Promise<typeof Cockatiel> | undefined;

/** The package of the breaker: loaded with the first circuit, and never without one. */
export function loadCockatiel(): Promise<typeof Cockatiel> {
  return (loading ??= import('cockatiel'));
}

/** The breaker refuses a call. */
export class Refused extends Error {}

type Settled<T> = { readonly value: T } | { readonly error: unknown };

/**
 * One process's breaker of one function, which is cockatiel's.
 *
 * - Shared, it follows the record: isolated while that is not closed. Its sampling window, which calls feed directly
 *   (its `execute()` costs three promises a call), says when the process's own calls would open it.
 * - Alone ({@link goAlone}), it decides: calls go through `execute()`, and one of them is the probe.
 */
export class LocalBreaker {
  private window: SamplingBreaker;
  private breaker: CircuitBreakerPolicy;
  private hold: { dispose(): void } | undefined;
  /** When it opened by itself, on a clock that nobody sets. */
  private openedAt = 0;
  private openForMs = 0;
  private alone = false;

  constructor(
    private readonly cockatiel: typeof Cockatiel,
    private readonly policy: CircuitPolicySettings,
    private readonly clock: Clock,
    private readonly onChange: (from: CircuitState, to: CircuitState) => void,
  ) {
    this.window = this.createWindow();
    this.breaker = this.createBreaker(0);
  }

  get state(): CircuitState {
    const { CircuitState: states } = this.cockatiel;
    switch (this.breaker.state) {
      case states.Closed:
        return 'closed';
      case states.HalfOpen:
        return 'half-open';
      case states.Open:
      case states.Isolated:
        return 'open';
    }
  }

  /** When it tries again by itself, on a clock that nobody sets. */
  get dueAt(): number {
    return this.openedAt + this.openForMs;
  }

  noteSuccess(): void {
    this.window.success(this.cockatiel.CircuitState.Closed);
  }

  /** Whether what this process saw would open the circuit. */
  noteFailure(): boolean {
    return this.window.failure(this.cockatiel.CircuitState.Closed);
  }

  /** The shared record is this. */
  follow(state: CircuitState): void {
    if (this.alone || state === 'closed') this.renew();
    if (state !== 'closed') this.hold ??= this.breaker.isolate();
  }

  /**
   * There is no shared record: it decides from here on.
   *
   * @param openForMs how long it stays open; 0: it is closed; absent: until the record says otherwise
   */
  goAlone(openForMs: number | undefined): void {
    this.hold = undefined;
    this.alone = true;
    this.breaker = this.createBreaker(openForMs ?? 0);
    if (openForMs === undefined) this.hold = this.breaker.isolate();
    const { CircuitState: states } = this.cockatiel;
    const { breaker } = this;
    let before = this.state;
    breaker.onStateChange((to) => {
      // A call that outlived the outage: the record holds again.
      if (breaker !== this.breaker) return;
      if (to === states.Open) this.noteOpening(this.policy.openMs);
      const from = before;
      before = this.state;
      this.onChange(from, before);
    });
  }

  /**
   * A call while it decides.
   *
   * @throws Refused
   */
  async run<T>(call: () => Promise<T>): Promise<T> {
    // Cockatiel lets others wait for the probe; here they learn at once.
    if (this.state === 'half-open') throw new Refused();
    const { isBrokenCircuitError, isIsolatedCircuitError } = this.cockatiel;
    let settled: Settled<T>;
    try {
      settled = await this.breaker.execute(() => this.settle(call));
    } catch (error) {
      if (isBrokenCircuitError(error) || isIsolatedCircuitError(error)) throw new Refused();
      throw error;
    }
    if ('error' in settled) throw settled.error;
    return settled.value;
  }

  /** What counts as a success is a value, whatever the caller gets. */
  private async settle<T>(call: () => Promise<T>): Promise<Settled<T>> {
    try {
      return { value: await call() };
    } catch (error) {
      if (outcomeOf(error, this.policy.isFailure) === 'success') return { error };
      throw error;
    }
  }

  private renew(): void {
    this.alone = false;
    this.hold?.dispose();
    this.hold = undefined;
    this.window = this.createWindow();
    this.breaker = this.createBreaker(0);
  }

  private noteOpening(openForMs: number): void {
    this.openedAt = this.clock.elapsed();
    this.openForMs = openForMs;
  }

  private createWindow(): SamplingBreaker {
    const { failureRate, minimumCalls, windowMs } = this.policy;
    return new this.cockatiel.SamplingBreaker({
      // It opens above its threshold, which has to be below 1; the record opens from the rate on.
      threshold: Math.min(failureRate, 1) * (1 - 1e-9),
      duration: windowMs,
      minimumRps: ((minimumCalls * 1_000) / windowMs) * (1 - 1e-9),
    });
  }

  private createBreaker(openForMs: number): CircuitBreakerPolicy {
    const { circuitBreaker, handleWhen, CircuitState: states } = this.cockatiel;
    const { openMs, isFailure } = this.policy;
    const isFailed = (error: Error): boolean => {
      const outcome = outcomeOf(error, isFailure);
      // A probe that says nothing does not close it.
      return outcome === 'failure' || (outcome === 'nothing' && this.state === 'half-open');
    };
    const open = { value: states.Open, openedAt: Date.now() - openMs + openForMs, attemptNo: 1 };
    if (openForMs > 0) this.noteOpening(openForMs);
    return circuitBreaker(handleWhen(isFailed), {
      breaker: this.window,
      halfOpenAfter: openMs,
      ...(openForMs > 0
        ? { initialState: { ownState: open, breakerState: this.window.state } }
        : {}),
    });
  }
}
