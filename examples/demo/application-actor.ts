import type { Actor } from './actor.js';
import type { Application } from './application.js';
import type { DemoEnvironment } from './environment.js';
import type { ActorEvent, CallerCommand } from './messages.js';
import type { RunLog } from './run-log.js';
import { startApplication } from './start-application.js';

/** An application of the demo's own process: what `memory://` reaches. */
export class ApplicationActor implements Actor {
  readonly whereabouts = 'in this process';
  readonly ended: Promise<string>;
  private readonly application: Promise<Application>;
  private readonly listeners = new Set<(event: ActorEvent) => void>();
  private leaving: Promise<void> | undefined;
  private end: (how: string) => void = () => undefined;

  constructor(
    readonly name: string,
    environment: DemoEnvironment,
    runs: RunLog,
  ) {
    this.ended = new Promise((resolve) => (this.end = resolve));
    this.application = startApplication(environment, runs, (event) => this.say(event));
    this.application.catch((error: unknown) => this.handleFailure(error));
  }

  on(listener: (event: ActorEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  async ask<T>(command: CallerCommand): Promise<T> {
    return (await (await this.application).perform(command)) as T;
  }

  dismiss(): string {
    void this.stop();
    return 'told to close';
  }

  stop(): Promise<void> {
    this.leaving ??= this.application
      .then((application) => application.close())
      .then(() => this.end('closed'))
      .catch((error: unknown) => this.handleFailure(error));
    return this.leaving;
  }

  private say(event: ActorEvent): void {
    for (const listener of [...this.listeners]) listener(event);
  }

  private handleFailure(error: unknown): void {
    console.error(error);
    this.end(`failed: ${String(error)}`);
  }
}
