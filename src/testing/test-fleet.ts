import { randomBytes } from 'node:crypto';
import type { INestApplicationContext } from '@nestjs/common';
import type { TestingModule, TestingModuleBuilder } from '@nestjs/testing';
import { useServer, type ServerLease } from '../backend/memory/memory-servers.js';
import { BACKEND } from '../backend/tokens.js';
import { ClosedError, InvalidArgumentError } from '../common/errors.js';
import { show } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import { CallClient } from '../execution/caller/call-client.js';
import { CallConsumer } from '../execution/worker/call-consumer.js';
import { FunctionsRuntime } from '../functions.runtime.js';
import { resolveOptions } from '../functions.options.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import type { FunctionContract } from '../registry/function-contract.js';
import type { Settings } from '../common/settings.js';
import { watchForDeath } from './death-watch.js';
import { FleetBackend, FleetProcess } from './fleet-process.js';
import { FunctionStub, type StubHost, type WorkerName } from './function-stub.js';
import { FunctionsSpy } from './functions-spy.js';
import { KEY_PREFIX } from './kit-providers.js';
import { watchServer } from './server-watch.js';
import type { StubAnswer } from './stub-answers.js';
import { StubProcess } from './stub-process.js';
import { assertStubSettings, hostedStub, type StubSettings } from './stub-settings.js';
import { takeOver, type TakeOverOptions } from './take-over.js';
import { TestClock, type ClockMode } from './test-clock.js';

/** How a {@link TestFleet} is made. */
export interface TestFleetOptions {
  /** Of its memory, `memory://name`; default: one that nobody else has. */
  readonly name?: string;
  /** Whether time passes by itself; default `running`. */
  readonly clock?: ClockMode;
  /** Namespace of functions that are stubbed without one; default: that of the first application. */
  readonly workflowId?: string;
}

/** How far the clock is turned at once while applications are closed. */
const CLOSING_STEP_MS = 50;

/**
 * A fleet in one process, for tests: a private memory in the place of Redis, a clock that can be turned, a spy, and
 * stubs of remote functions whose workers come and go as the test says. Applications join it through
 * `FunctionsTestingModule`, or are taken over with {@link override}.
 *
 * @example
 * ```ts
 * const fleet = new TestFleet();
 * afterEach(() => fleet.close());
 * const resize = await fleet.stub('resize', { url: '/small.png' });
 * const app = await fleet.start(Test.createTestingModule({ imports: [AppModule] }));
 * ```
 */
export class TestFleet implements StubHost {
  /** What happens in the fleet. */
  readonly spy: FunctionsSpy;
  /** The time of everything in it. */
  readonly clock: TestClock;
  private readonly name: string;
  private readonly memory: ServerLease;
  private readonly unwatch: Dispose;
  private readonly applications = new Set<FleetProcess>();
  private readonly started = new Set<INestApplicationContext>();
  private readonly stubs = new Map<string, FunctionStub<never>>();
  private readonly settings = new Map<string, StubSettings>();
  private workflowId: string | undefined;
  private closed = false;

  constructor(options: TestFleetOptions = {}) {
    const { name = `test-${randomBytes(8).toString('hex')}`, clock = 'running' } = options;
    this.name = name;
    this.workflowId = options.workflowId;
    this.clock = new TestClock(clock, () => this.memory.server.answers.isBusy);
    this.memory = useServer(name, this.clock);
    if (this.memory.server.clock !== this.clock) {
      this.memory.release();
      this.clock.close();
      throw new InvalidArgumentError(
        'name',
        `${show(name)}, a memory that somebody else uses already`,
        'one that the fleet is the first to use, or none; applications share a fleet by sharing the object',
      );
    }
    this.spy = new FunctionsSpy(
      () => this.clock.now(),
      () =>
        this.clock.mode === 'frozen' ? ' (Its clock is frozen: advance() lets time pass.)' : '',
    );
    this.unwatch = watchServer(this.memory.server, KEY_PREFIX, this.spy);
  }

  /** The `connection` of applications that share its memory and are no part of it otherwise. */
  get connection(): string {
    return `memory://${this.name}`;
  }

  /**
   * Stubs a remote function: a worker of it appears, whose answers the test decides. Stubbed once more under the same
   * `workerId`, the function has another answer, and the same stub.
   *
   * @param fn a contract of `defineFunction`, or a function's name
   * @param answer a value, a function of the parameters and the context, or an error to throw; default nothing
   * @returns when its worker is ready
   * @throws InvalidNameError, InvalidArgumentError, ClosedError
   */
  stub<Input extends object, Output>(
    fn: FunctionContract<Input, Output>,
    answer?: StubAnswer<Input, Output>,
    settings?: StubSettings,
  ): Promise<FunctionStub<Input, Output>>;
  stub<Input = Record<string, unknown>, Output = unknown>(
    fn: string,
    answer?: StubAnswer<Input, Output>,
    settings?: StubSettings,
  ): Promise<FunctionStub<Input, Output>>;
  async stub(
    fn: string | FunctionContract<object, unknown>,
    answer?: StubAnswer<never, unknown>,
    settings: StubSettings = {},
  ): Promise<FunctionStub<never>> {
    this.assertOpen();
    assertStubSettings(settings);
    const stub = this.stubOf(this.refOf(fn, settings.workflowId), settings);
    if (answer !== undefined) stub.answer(answer);
    return settings.absent === true ? stub : stub.appear();
  }

  /**
   * Makes the application of a builder a process of this fleet, in the place of its Redis: what the builder's modules
   * say of `connection` and `keyPrefix` is left out, and the rest of their options holds.
   *
   * @returns the builder
   */
  override(builder: TestingModuleBuilder, options?: TakeOverOptions): TestingModuleBuilder;
  /** @internal */
  override(
    builder: TestingModuleBuilder,
    options: TakeOverOptions,
    admit: (settings: Settings) => FleetProcess,
  ): TestingModuleBuilder;
  override(
    builder: TestingModuleBuilder,
    options: TakeOverOptions = {},
    admit: (settings: Settings) => FleetProcess = (settings) => this.admit(settings),
  ): TestingModuleBuilder {
    const provider = { provide: TestFleet, useValue: this };
    return takeOver(builder, { admit, provider }, options);
  }

  /** {@link override}, compiled and initialised; it is closed with the fleet. */
  async start(
    builder: TestingModuleBuilder,
    options: TakeOverOptions = {},
  ): Promise<TestingModule> {
    const module = await this.override(builder, options).compile();
    this.started.add(module);
    return module.init();
  }

  /**
   * An application of the fleet dies as by SIGKILL: nothing is said, its running handlers are aborted, its callers get
   * CLOSED. Resolves when its workers were missed, as {@link FunctionStub.die}. What Nest holds of it is still there:
   * close it, or the fleet, in the end.
   */
  async kill(
    app: INestApplicationContext,
    options: { readonly unnoticed?: boolean } = {},
  ): Promise<void> {
    const backend: unknown = app.get(BACKEND, { strict: false });
    if (!(backend instanceof FleetBackend) || !this.applications.has(backend.process))
      throw new InvalidArgumentError('app', 'no application of this fleet', 'one that joined it');
    const workers = app.get(WorkerCoordinator, { strict: false }).workers();
    const untilMissed = this.watchForDeath(workers);
    await backend.process.die(() => windUp(app));
    if (options.unnoticed !== true) await untilMissed();
  }

  /**
   * Ends the fleet: applications that it started are closed (time passes for them as they need it), stubs are gone,
   * no timer is left. Who still waits with the spy is told.
   *
   * @throws Error applications that the test made itself are still open
   */
  async close(): Promise<void> {
    if (this.closed) return;
    await this.closeStarted();
    this.closed = true;
    for (const stub of this.stubs.values()) if (stub.isThere) await stub.die({ unnoticed: true });
    const open = this.applications.size;
    this.unwatch();
    this.spy.close();
    this.clock.close();
    this.memory.release();
    if (open > 0)
      throw new Error(
        `${open} application(s) of the fleet are still open: close them before the fleet (await app.close()).`,
      );
  }

  /** @internal A new application; the first one says where functions without a namespace are. */
  admit(settings: Settings, left: () => Promise<void> = () => Promise.resolve()): FleetProcess {
    this.assertOpen();
    this.workflowId ??= settings.workflowId;
    const process = this.makeProcess(async () => {
      if (this.applications.delete(process)) await left();
    });
    this.applications.add(process);
    return process;
  }

  /** @internal */
  get isEmpty(): boolean {
    return this.applications.size === 0;
  }

  /** @internal */
  launch(stub: FunctionStub<never>): StubProcess {
    const { workerId } = stub;
    const { settings } = resolveOptions({ connection: 'memory://', workerId });
    const process = this.makeProcess(() => Promise.resolve());
    const hosted = hostedStub(stub, this.settings.get(keyOf(stub)) ?? {}, process.clock);
    return new StubProcess(process, hosted, this.spy, settings);
  }

  /** @internal */
  watchForDeath(workers: readonly WorkerName[]): () => Promise<void> {
    return watchForDeath(this.spy, this.clock, workers);
  }

  private makeProcess(left: () => Promise<void>): FleetProcess {
    return new FleetProcess(this.name, this.clock, this.spy, left);
  }

  private stubOf(ref: FunctionRef, settings: StubSettings): FunctionStub<never> {
    const { workerId = 'stub', workflowId: _workflowId, absent: _absent, ...handler } = settings;
    const key = keyOf({ ref, workerId });
    const known = this.stubs.get(key);
    if (known === undefined) {
      const stub = new FunctionStub<never>(this, ref, workerId);
      this.settings.set(key, handler);
      this.stubs.set(key, stub);
      return stub;
    }
    const again = Object.keys(handler);
    if (again.length === 0) return known;
    throw new InvalidArgumentError(
      `The stub of ${ref.functionName}`,
      `there already, with its ${again.join(' and ')}`,
      'settings the first time that it is stubbed, or another workerId',
    );
  }

  private refOf(
    fn: string | FunctionContract<object, unknown>,
    workflowId: string | undefined,
  ): FunctionRef {
    const otherwise = this.workflowId ?? 'default';
    if (typeof fn === 'string') return functionRef(fn, workflowId ?? otherwise);
    return functionRef(fn.name, workflowId ?? fn.workflowId ?? otherwise);
  }

  private async closeStarted(): Promise<void> {
    if (this.started.size === 0) return;
    let done = false;
    const closing = Promise.all([...this.started].map((app) => app.close())).finally(
      () => (done = true),
    );
    closing.catch(() => undefined);
    this.started.clear();
    while (!done) await this.clock.advance(CLOSING_STEP_MS);
    await closing;
  }

  private assertOpen(): void {
    if (this.closed) throw new ClosedError('The fleet');
  }
}

/** Ends the parts of an application that lost its connections: what reads and calls first, then all. */
async function windUp(app: INestApplicationContext): Promise<void> {
  const reading = app.get(CallConsumer, { strict: false }).close();
  const calling = app.get(CallClient, { strict: false }).close();
  const runtime = app.get(FunctionsRuntime, { strict: false });
  await Promise.all([reading, calling, runtime.drain()]);
  await runtime.close();
}

function keyOf({ ref, workerId }: WorkerName): string {
  return `${ref.id} ${workerId}`;
}
