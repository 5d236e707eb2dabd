import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { toVariables, type DemoEnvironment } from './environment.js';
import type { CallerCommand, ChildEvent, ChildMessage, NumberedCommand } from './messages.js';

const LOADER = new URL('../../tools/register-ts.mjs', import.meta.url).href;
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ANSWER_LIMIT_MS = 90_000;
const STOP_LIMIT_MS = 3_000;

interface Question {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A process of the demo: a real one, with its own pid, ended by that pid. */
export class Child {
  readonly exited: Promise<number | null>;
  private readonly process: ChildProcess;
  private readonly questions = new Map<number, Question>();
  private readonly listeners = new Set<(event: ChildEvent) => void>();
  private asked = 0;
  private over = false;

  constructor(
    readonly name: string,
    file: string,
    environment: DemoEnvironment,
  ) {
    const script = fileURLToPath(new URL(file, import.meta.url));
    this.process = spawn(process.execPath, ['--enable-source-maps', '--import', LOADER, script], {
      cwd: ROOT,
      env: toVariables(environment),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.process.on('message', (message) => this.receive(message as ChildMessage));
    this.exited = new Promise((resolve) => this.process.once('exit', resolve));
    void this.exited.then(() => this.handleExit());
  }

  get pid(): number {
    return this.process.pid ?? -1;
  }

  /** Listens to what it says by itself; the result removes the listener. */
  on(listener: (event: ChildEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Has it do something, and resolves with what came of it. */
  ask<T>(command: CallerCommand): Promise<T> {
    const id = (this.asked += 1);
    const answer = new Promise<T>((resolve, reject) => {
      if (this.over) return reject(new Error(`${this.name} has ended`));
      const timer = setTimeout(
        () => reject(new Error(`${this.name} did not answer '${command.do}' in time`)),
        ANSWER_LIMIT_MS,
      );
      timer.unref();
      const done = (): void => {
        clearTimeout(timer);
        this.questions.delete(id);
      };
      this.questions.set(id, {
        resolve: (result) => (done(), resolve(result as T)),
        reject: (error) => (done(), reject(error)),
      });
      this.process.send({ id, command } satisfies NumberedCommand);
    });
    // Who asked may be gone by the time it fails: a demo that is interrupted says so once.
    answer.catch(() => undefined);
    return answer;
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** SIGTERM, and SIGKILL for one that does not go. */
  async stop(): Promise<void> {
    if (this.over) return;
    this.signal('SIGTERM');
    const force = setTimeout(() => this.signal('SIGKILL'), STOP_LIMIT_MS);
    await this.exited;
    clearTimeout(force);
  }

  private receive(message: ChildMessage): void {
    if ('event' in message) {
      for (const listener of [...this.listeners]) listener(message);
      return;
    }
    const question = this.questions.get(message.answerTo);
    if (message.problem === undefined) question?.resolve(message.result);
    else question?.reject(new Error(`${this.name}: ${message.problem}`));
  }

  private handleExit(): void {
    this.over = true;
    for (const { reject } of this.questions.values()) reject(new Error(`${this.name} has ended`));
  }
}
