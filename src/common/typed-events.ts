/** Removes what a registration added; calling it twice is harmless. */
export type Dispose = () => void;

/**
 * Events with typed payloads. A listener that throws (or whose promise rejects) reaches `onListenerError`
 * and never another listener or the emitter's caller.
 */
export class TypedEvents<Events extends object> {
  private readonly listeners = new Map<keyof Events, Set<(event: never) => unknown>>();

  constructor(private readonly onListenerError: (event: PropertyKey, error: unknown) => void) {}

  /** Adds a listener; the result removes it. */
  on<K extends keyof Events>(event: K, listener: (payload: Events[K]) => unknown): Dispose {
    let set = this.listeners.get(event);
    if (set === undefined) this.listeners.set(event, (set = new Set()));
    // A wrapper per registration: the same function added twice is two listeners, each with its dispose.
    const entry = (payload: Events[K]): unknown => listener(payload);
    set.add(entry);
    return () => {
      set.delete(entry);
    };
  }

  /** Calls the listeners in the order they were added. */
  emit<K extends keyof Events>(event: K, payload: Events[K]): void {
    const set = this.listeners.get(event);
    if (set === undefined) return;
    for (const listener of [...set]) {
      callIsolated(
        () => listener(payload as never),
        (error) => this.onListenerError(event, error),
      );
    }
  }

  /** Removes every listener. */
  clear(): void {
    this.listeners.clear();
  }
}

/** Runs `task`; what it throws, or what its promise rejects with, goes to `onError`. */
export function callIsolated(task: () => unknown, onError: (error: unknown) => void): void {
  try {
    const result = task();
    if (result instanceof Promise) result.catch(onError);
  } catch (error) {
    onError(error);
  }
}
