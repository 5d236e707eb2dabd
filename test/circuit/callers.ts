import { MemoryBackend } from '../../src/backend/memory/memory-backend.js';
import type { CircuitStore } from '../../src/backend/circuit-store.js';
import type { CircuitChange } from '../../src/circuit/circuit-events.js';
import { CIRCUIT_DEFAULTS } from '../../src/circuit/circuit-options.js';
import { FunctionCircuit } from '../../src/circuit/function-circuit.js';
import { LocalBreaker, loadCockatiel } from '../../src/circuit/local-breaker.js';
import { RemoteFunctionError } from '../../src/common/errors.js';
import type { CircuitPolicySettings } from '../../src/common/settings.js';
import {
  parseCircuitNotification,
  type CircuitNotification,
  type CircuitState,
} from '../../src/protocol/circuit.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { isMalformed } from '../../src/protocol/notification.js';
import { TestClock } from '../../src/testing/test-clock.js';
import { uniquePrefix } from '../harness/apps.js';
import { codeOf } from '../harness/caught.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';

export const LEASE_MS = 3_000;
export const REF = functionRef('work', 'default');
const POLICY: CircuitPolicySettings = { ...CIRCUIT_DEFAULTS, minimumCalls: 4 };

/** What a handler that fails makes of a call. */
export const failure = (): Promise<never> =>
  Promise.reject(
    new RemoteFunctionError('work', 'default', 'c', 'w', {
      code: 'HANDLER_FAILED',
      message: 'broken',
    }),
  );
export const success = (): Promise<string> => Promise.resolve('done');

type Question = Exclude<keyof CircuitStore, 'counts' | 'order'>;

/** One process's circuit: the test decides when its questions arrive, are answered, and when it hears news. */
export class Caller {
  readonly changes: CircuitChange[] = [];
  readonly circuit: FunctionCircuit;
  /** News that are on their way. */
  readonly news: CircuitNotification[] = [];
  connected = true;
  private readonly gates = new Map<string, { reached: Deferred<void>; opened: Deferred<void> }>();

  constructor(
    readonly name: string,
    readonly backend: MemoryBackend,
    readonly clock: TestClock,
    policy: Partial<CircuitPolicySettings> = {},
  ) {
    const own = { ...POLICY, ...policy };
    this.circuit = new FunctionCircuit(
      REF,
      own,
      {
        store: this.gated(backend.circuits),
        clock,
        caller: name,
        leaseMs: LEASE_MS,
        isConnected: () => this.connected,
        address: 'memory://',
        counted: () => undefined,
        changed: (_, change) => this.changes.push(change),
        wentAlone: () => undefined,
        cameBack: () => undefined,
        debug: () => undefined,
      },
      async (onChange) => new LocalBreaker(await loadCockatiel(), own, clock, onChange),
    );
  }

  get state(): CircuitState {
    return this.circuit.state;
  }

  /** Holds the next question of a kind, before or after the store has carried it out. */
  hold(question: Question, stage: 'before' | 'after'): { reached: Promise<void>; go: () => void } {
    const gate = { reached: createDeferred(), opened: createDeferred() };
    this.gates.set(`${question} ${stage}`, gate);
    return { reached: gate.reached.promise, go: () => gate.opened.resolve() };
  }

  call<T>(run: () => Promise<T>): Promise<unknown> {
    return codeOf(this.circuit.guard(run));
  }

  /** Calls that fail, reported. */
  async fail(count: number): Promise<void> {
    for (let index = 0; index < count; index += 1) await this.call(failure);
    await this.circuit.report();
  }

  /** Lets it hear what is on its way, in the order that the test gives. */
  hearAll(order: (news: CircuitNotification[]) => CircuitNotification[] = (news) => news): void {
    for (const one of order(this.news.splice(0))) this.circuit.hear(one);
  }

  private gated(store: CircuitStore): CircuitStore {
    return new Proxy(store, {
      get: (target, name: keyof CircuitStore) => {
        const method = target[name].bind(target) as (...args: unknown[]) => Promise<unknown>;
        return async (...args: unknown[]) => {
          await this.pass(`${name} before`);
          const answer = await method(...args);
          await this.pass(`${name} after`);
          return answer;
        };
      },
    });
  }

  private async pass(key: string): Promise<void> {
    const gate = this.gates.get(key);
    if (gate === undefined) return;
    this.gates.delete(key);
    gate.reached.resolve();
    await gate.opened.promise;
  }
}

/** Callers of one function, on one store whose clock the test turns. */
export class Callers {
  readonly clock = new TestClock('frozen');
  private readonly name = uniquePrefix().replace(':', '');
  private readonly backends: MemoryBackend[] = [];

  async add(policy: Partial<CircuitPolicySettings> = {}, clock = this.clock): Promise<Caller> {
    const caller = await this.join(policy, clock);
    await caller.circuit.open();
    return caller;
  }

  /** One that has not asked for the record yet. */
  async join(policy: Partial<CircuitPolicySettings> = {}, clock = this.clock): Promise<Caller> {
    const keys = new Keys('');
    const backend = new MemoryBackend(this.name, keys, this.clock);
    this.backends.push(backend);
    const caller = new Caller(`caller-${this.backends.length}`, backend, clock, policy);
    backend.bus.attach({
      message: (_, payload) => {
        const news = parseCircuitNotification(REF, payload);
        if (!isMalformed(news)) caller.news.push(news);
      },
      connected: () => undefined,
      disconnected: () => undefined,
    });
    backend.start();
    await backend.bus.subscribe([keys.circuitChannel(REF)]);
    return caller;
  }

  /** What is stored, whatever callers know. */
  get store(): CircuitStore {
    return (this.backends[0] as MemoryBackend).circuits;
  }

  /** Redis is emptied. */
  forget(): void {
    this.backends[0]?.server.forget('');
  }

  async close(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.close()));
  }
}

/** Opens the circuit by the failing calls of these, who are all there are; they know it, others have news of it. */
export async function openBy(callers: Callers, ...failing: Caller[]): Promise<void> {
  for (const caller of failing) await caller.fail(4);
  callers.clock.tick(600);
  for (const caller of failing) await caller.fail(1);
}
