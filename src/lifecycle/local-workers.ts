import type { FunctionRef } from '../protocol/function-ref.js';

/** A worker of this process, as it stands. */
export interface LocalWorker {
  readonly ref: FunctionRef;
  readonly workerId: string;
  /** Whether the registry has it. */
  readonly registered: boolean;
  readonly status: 'ready' | 'unhealthy' | 'draining';
  readonly reason: string | undefined;
}

/** A worker that this process offers, registered or about to be. */
export interface LocalRegistration {
  readonly ref: FunctionRef;
  readonly workerId: string;
  /** As JSON; `''` keeps what the registry has. */
  definition: string;
  /** Of its registration; absent while it is not registered. */
  epoch: number | undefined;
  /** Of the last change that was told. */
  seq: number;
  status: LocalWorker['status'];
  reason: string | undefined;
  /** Its status was changed here, and the registry has not confirmed it. */
  untold: boolean;
}

/** The workers of this process. State only: no I/O. */
export class LocalWorkers {
  private readonly registrations = new Map<string, LocalRegistration>();

  get size(): number {
    return this.registrations.size;
  }

  all(): LocalRegistration[] {
    return [...this.registrations.values()];
  }

  /** Their functions, each once. */
  functions(): FunctionRef[] {
    return [...new Map(this.all().map(({ ref }) => [ref.id, ref])).values()];
  }

  describe(): LocalWorker[] {
    return this.all().map(({ ref, workerId, epoch, status, reason }) => ({
      ref,
      workerId,
      registered: epoch !== undefined,
      status,
      reason,
    }));
  }

  find(ref: FunctionRef, workerId: string): LocalRegistration | undefined {
    return this.registrations.get(keyOf(ref, workerId));
  }

  /** The worker, new or known; one that is registered again is ready again. */
  remember(ref: FunctionRef, workerId: string, definition: string): LocalRegistration {
    const known = this.find(ref, workerId);
    if (known !== undefined) {
      if (definition !== '') known.definition = definition;
      known.status = 'ready';
      known.reason = undefined;
      known.untold = false;
      return known;
    }
    const registration: LocalRegistration = {
      ref,
      workerId,
      definition,
      epoch: undefined,
      seq: 0,
      status: 'ready',
      reason: undefined,
      untold: false,
    };
    this.registrations.set(keyOf(ref, workerId), registration);
    return registration;
  }

  forget(ref: FunctionRef, workerId: string): void {
    this.registrations.delete(keyOf(ref, workerId));
  }

  clear(): void {
    this.registrations.clear();
  }

  /** The session is lost: the registry has none of them. */
  markUnregistered(): void {
    for (const registration of this.registrations.values()) registration.epoch = undefined;
  }

  /** Whether a worker here offers the function, able to take calls or not. */
  offers(ref: FunctionRef): boolean {
    for (const registration of this.registrations.values())
      if (registration.ref.id === ref.id) return true;
    return false;
  }

  /** Whether a worker here may take calls of the function. */
  takesCalls(ref: FunctionRef): boolean {
    for (const registration of this.registrations.values()) {
      if (registration.ref.id === ref.id && registration.status === 'ready') return true;
    }
    return false;
  }
}

function keyOf(ref: FunctionRef, workerId: string): string {
  return `${ref.id} ${workerId}`;
}
