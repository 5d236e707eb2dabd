import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Actor } from './actor.js';
import { toVariables, type DemoEnvironment } from './environment.js';
import type { CallerCommand, ActorEvent, ProcessMessage, NumberedCommand } from './messages.js';

const SCRIPT = fileURLToPath(new URL('./actor-process.ts', import.meta.url));
const LOADER = new URL('../../tools/register-ts.mjs', import.meta.url).href;
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ANSWER_LIMIT_MS = 90_000;
const STOP_LIMIT_MS = 3_000;

interface Question {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A real process, with its own pid, ended by that pid. */
export class ProcessActor implements Actor {
  readonly ended: Promise<string>;
  private readonly process: ChildProcess;
  private readonly questions = new Map<number, Question>();
  private readonly listeners = new Set<(event: ActorEvent) => void>();
  private asked = 0;
  private over = false;

  constructor(
    readonly name: string,
    environment: DemoEnvironment,
  ) {
    this.process = spawn(process.execPath, [...process.execArgv, '--import', LOADER, SCRIPT], {
      cwd: ROOT,
      env: toVariables(environment),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.process.on('message', (message) => this.receive(message as ProcessMessage));
    this.ended = new Promise((resolve) =>
      this.process.once('exit', (code, signal) =>
        resolve(code === null ? String(signal) : `exit code ${code}`),
      ),
    );
    void this.ended.then(() => this.handleExit());
  }

  get whereabouts(): string {
    return `pid ${this.process.pid}`;
  }

  on(listener: (event: ActorEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

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

  dismiss(): string {
    this.process.kill('SIGTERM');
    return `SIGTERM to ${this.whereabouts}`;
  }

  kill(): void {
    this.process.kill('SIGKILL');
  }

  /** SIGTERM, and SIGKILL for one that does not go. */
  async stop(): Promise<void> {
    if (this.over) return;
    this.dismiss();
    const force = setTimeout(() => this.kill(), STOP_LIMIT_MS);
    await this.ended;
    clearTimeout(force);
  }

  private receive(message: ProcessMessage): void {
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
