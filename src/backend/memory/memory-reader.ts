import { BackendUnavailableError } from '../../common/errors.js';
import type { Blocked } from './blocked.js';
import type { MemoryConnection } from './memory-connection.js';

/** What the blocking reads of calls and of replies have in common: a connection of their own, as it were. */
export abstract class MemoryReader<T> {
  protected blocked: Blocked<T> | undefined;
  private connectionCount = 1;
  private closed = false;

  constructor(
    protected readonly connection: MemoryConnection,
    private readonly operation: string,
  ) {}

  whenConnected(): Promise<void> {
    return this.isClosed
      ? Promise.reject(this.connection.closedError())
      : this.connection.server.answers.answer(undefined);
  }

  connections(): number {
    return this.connectionCount;
  }

  reset(): void {
    if (this.isClosed) return;
    this.connectionCount += 1;
    this.blocked?.end(new BackendUnavailableError(this.operation, this.connection.address));
  }

  close(): Promise<void> {
    if (this.closed) return Promise.resolve();
    this.closed = true;
    this.blocked?.end(this.connection.closedError());
    this.ended();
    return Promise.resolve();
  }

  protected get isClosed(): boolean {
    return this.closed || this.connection.isClosed;
  }

  /** It reads nothing more. */
  protected abstract ended(): void;
}
