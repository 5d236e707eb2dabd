import { randomBytes } from 'node:crypto';
import type { INestApplicationContext } from '@nestjs/common';
import type { TestingModule, TestingModuleBuilder } from '@nestjs/testing';
import { useServer, type ServerLease } from '../backend/memory/memory-servers.js';
import { ClosedError, InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import type { FunctionContract } from '../registry/function-contract.js';
import { processOf, windUp } from './application-death.js';
import { FleetProcess } from './fleet-process.js';
import { FleetStubs, type StubbedFunction } from './fleet-stubs.js';
import type { FunctionStub } from './function-stub.js';
import { FunctionsSpy } from './functions-spy.js';
import { KEY_PREFIX } from './kit-providers.js';
import { watchServer } from './server-watch.js';
import type { StubAnswer } from './stub-answers.js';
import type { StubSettings } from './stub-settings.js';
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
export class TestFleet {
  /** What happens in the fleet. */
  readonly spy: FunctionsSpy;
  /** The time of everything in it. */
  readonly clock: TestClock;
  private readonly name: string;
  private readonly memory: ServerLease;
  private readonly unwatch: Dispose;
  private readonly applications = new Set<FleetProcess>();
  private readonly started = new Set<INestApplicationContext>();
  private readonly stubs: FleetStubs;
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
    this.stubs = new FleetStubs(() => this.makeProcess(), this.spy, this.clock);
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
    fn: StubbedFunction,
    answer?: StubAnswer<never, unknown>,
    settings: StubSettings = {},
  ): Promise<FunctionStub<never>> {
    this.assertOpen();
    const stub = this.stubs.find(fn, settings, this.workflowId ?? 'default');
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
    const process = processOf(app);
    if (process === undefined || !this.applications.has(process))
      throw new InvalidArgumentError('app', 'no application of this fleet', 'one that joined it');
    const workers = app.get(WorkerCoordinator, { strict: false }).workers();
    const untilMissed = options.unnoticed === true ? undefined : this.stubs.watchForDeath(workers);
    await process.die(() => windUp(app));
    await untilMissed?.();
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
    await this.stubs.end();
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

  private makeProcess(left: () => Promise<void> = () => Promise.resolve()): FleetProcess {
    return new FleetProcess(this.name, this.clock, this.spy, left);
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
