/** A running timer. */
export interface Timer {
  cancel(): void;
}

/**
 * Time as the library sees it. Everything that waits takes a clock, so that a test can turn it.
 * Timers never keep a process alive by themselves.
 */
export interface Clock {
  /** Milliseconds since the epoch, on this host. */
  now(): number;
  /** Milliseconds since some moment, on a clock that nobody sets. */
  elapsed(): number;
  /** Runs `task` once after `ms`. */
  after(ms: number, task: () => void): Timer;
  /** Runs `task` every `ms`, never overlapping a synchronous run of itself. */
  every(ms: number, task: () => void): Timer;
}

/** The host's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(ms, task) {
    const handle = setTimeout(task, ms);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  every(ms, task) {
    const handle = setInterval(task, ms);
    handle.unref();
    return { cancel: () => clearInterval(handle) };
  },
};

/** Resolves after `ms` on `clock`, or at once when `signal` aborts. */
export function pause(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve();
    const timer = clock.after(ms, done);
    signal?.addEventListener('abort', done, { once: true });
    function done(): void {
      timer.cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    }
  });
}

/** Settles as `work` does, or rejects with `onTimeout()` after `ms`. */
export async function within<T>(
  clock: Clock,
  ms: number,
  work: Promise<T>,
  onTimeout: () => Error,
): Promise<T> {
  let timer: Timer | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = clock.after(ms, () => reject(onTimeout()));
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    timer?.cancel();
  }
}

/** Settles as `work` does, and keeps the process alive meanwhile, `ms` at the most. */
export async function holdingProcess<T>(ms: number, work: Promise<T>): Promise<T> {
  const hold = setTimeout(() => undefined, ms);
  try {
    return await work;
  } finally {
    clearTimeout(hold);
  }
}

/** Settles as `work` does, or rejects with `onAbort()` when `signal` aborts, or has aborted. */
export async function untilAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  onAbort: () => Error,
): Promise<T> {
  if (signal === undefined) return work;
  work.catch(() => undefined);
  if (signal.aborted) throw onAbort();
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(onAbort());
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
