import { InvalidArgumentError } from '../common/errors.js';
import { resolveOptions } from '../functions.options.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import type { FunctionContract } from '../registry/function-contract.js';
import { checkedHandler } from '../registry/function-handler.decorator.js';
import { watchForDeath } from './death-watch.js';
import type { FleetProcess } from './fleet-process.js';
import { FunctionStub, type AnyStub, type StubHost, type WorkerName } from './function-stub.js';
import type { FunctionsSpy } from './functions-spy.js';
import { memberSettings } from './kit-providers.js';
import { StubProcess } from './stub-process.js';
import { assertStubSettings, hostedStub, type StubSettings } from './stub-settings.js';
import type { TestClock } from './test-clock.js';

/** What a stub may be asked for by. */
export type StubbedFunction = string | FunctionContract<object, unknown>;

const DEFAULT_WORKER = 'stub';

/** The stubs of a fleet: one per function and workerId. */
export class FleetStubs implements StubHost {
  private readonly known = new Map<string, FunctionStub<never>>();

  constructor(
    private readonly makeProcess: () => FleetProcess,
    private readonly spy: FunctionsSpy,
    private readonly clock: TestClock,
  ) {}

  /**
   * The stub that is meant; made, if it is not there.
   *
   * @param workflowId of functions that are named without one
   * @throws InvalidNameError, InvalidArgumentError
   */
  find(fn: StubbedFunction, settings: StubSettings, workflowId: string): FunctionStub<never> {
    assertStubSettings(settings);
    const { workerId = DEFAULT_WORKER, workflowId: own, absent: _, ...handler } = settings;
    const ref = refOf(fn, own, workflowId);
    const key = keyOf({ ref, workerId });
    const known = this.known.get(key);
    if (known === undefined) {
      const { functionName: name } = ref;
      const metadata = checkedHandler({ ...handler, name, workflowId: ref.workflowId });
      const stub = new FunctionStub<never>(this, ref, workerId, metadata);
      this.known.set(key, stub);
      return stub;
    }
    const again = Object.keys(handler);
    if (again.length === 0) return known;
    throw new InvalidArgumentError(
      `The stub of ${ref.functionName}`,
      `there already, and is given ${again.join(' and ')}`,
      'settings the first time that it is stubbed, or another workerId',
    );
  }

  launch(stub: AnyStub): StubProcess {
    const { workerId } = stub;
    const { settings } = resolveOptions({ connection: 'memory://', workerId });
    const process = this.makeProcess();
    const hosted = hostedStub(stub, process.clock);
    return new StubProcess(process, hosted, this.spy, memberSettings(settings));
  }

  watchForDeath(workers: readonly WorkerName[]): () => Promise<void> {
    return watchForDeath(this.spy, this.clock, workers);
  }

  /** Ends all, and nobody is told. */
  async end(): Promise<void> {
    for (const stub of this.known.values()) if (stub.isThere) await stub.die({ unnoticed: true });
  }
}

function keyOf({ ref, workerId }: WorkerName): string {
  return `${ref.id} ${workerId}`;
}

function refOf(fn: StubbedFunction, own: string | undefined, otherwise: string): FunctionRef {
  if (typeof fn === 'string') return functionRef(fn, own ?? otherwise);
  return functionRef(fn.name, own ?? fn.workflowId ?? otherwise);
}
