import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What a process can be asked for; its file in ../processes implements it and exports its type. */
export type Commands = Record<string, (argument: never) => unknown>;

type Argument<C extends Commands, K extends keyof C> = Parameters<C[K]>[0];
type Answer<C extends Commands, K extends keyof C> = Awaited<ReturnType<C[K]>>;

/** To the process. */
export interface Question {
  readonly id: number;
  readonly command: string;
  readonly argument: unknown;
}

/** From the process: it is up, or it answers, or that failed. */
export type Message =
  | { readonly kind: 'up' }
  | { readonly kind: 'answer'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'failure'; readonly id: number | undefined; readonly text: string };

const LOADER = new URL('../../tools/register-ts.mjs', import.meta.url).href;
const START_LIMIT_MS = 60_000;
const ANSWER_LIMIT_MS = 120_000;
const STOP_LIMIT_MS = 15_000;
const OUTPUT_LIMIT = 8_192;

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/**
 * A process of the benchmark: a file of ../processes with settings, asked over IPC, ended by its pid.
 * IPC carries orders and reports only; nothing that is measured travels over it.
 */
export class BenchProcess<C extends Commands> {
  private readonly waiting = new Map<number, Waiting>();
  private readonly up: Promise<void>;
  readonly exited: Promise<void>;
  private asked = 0;
  private over = false;
  private output = '';

  private constructor(
    readonly name: string,
    private readonly child: ChildProcess,
  ) {
    child.stdout?.on('data', (chunk: Buffer) => this.keep(chunk));
    child.stderr?.on('data', (chunk: Buffer) => this.keep(chunk));
    this.up = this.await(0, 'to be up', START_LIMIT_MS).then(() => undefined);
    this.exited = new Promise((resolve) => child.once('exit', () => resolve()));
    child.on('message', (message) => this.receive(message as Message));
    void this.exited.then(() => this.handleExit());
  }

  /** Starts one and resolves when it is up. */
  static async start<C extends Commands>(
    file: string,
    settings: object,
    nodeArguments: readonly string[] = [],
  ): Promise<BenchProcess<C>> {
    const path = fileURLToPath(new URL(`../processes/${file}`, import.meta.url));
    const child = spawn(process.execPath, [...nodeArguments, '--import', LOADER, path], {
      env: { ...process.env, BENCH: JSON.stringify(settings), NODE_ENV: 'production' },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const started = new BenchProcess<C>(file, child);
    try {
      await started.up;
    } catch (error) {
      await started.stop();
      throw error;
    }
    return started;
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** Has it do something, and resolves with what came of it. */
  ask<K extends keyof C & string>(
    command: K,
    ...[argument]: Argument<C, K> extends undefined ? [] : [argument: Argument<C, K>]
  ): Promise<Answer<C, K>> {
    const id = (this.asked += 1);
    const answer = this.await(id, `to answer ${command}`, ANSWER_LIMIT_MS);
    this.child.send({ id, command, argument } satisfies Question, (error) => {
      if (error !== null) this.settle(id)?.reject(error);
    });
    return answer as Promise<Answer<C, K>>;
  }

  /** Stands still until {@link thaw}, as if it had been taken off the machine. */
  freeze(): void {
    this.child.kill('SIGSTOP');
  }

  thaw(): void {
    this.child.kill('SIGCONT');
  }

  /** SIGTERM, and SIGKILL for one that does not go. Safe to call twice. */
  async stop(): Promise<void> {
    if (this.over) return;
    this.thaw();
    this.child.kill('SIGTERM');
    const force = setTimeout(() => this.child.kill('SIGKILL'), STOP_LIMIT_MS);
    await this.exited;
    clearTimeout(force);
  }

  private await(id: number, what: string, limitMs: number): Promise<unknown> {
    const awaited = new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.settle(id)?.reject(new Error(this.describe(`took over ${limitMs} ms ${what}`))),
        limitMs,
      );
      const release = (): void => clearTimeout(timer);
      this.waiting.set(id, {
        resolve: (result) => (release(), resolve(result)),
        reject: (error) => (release(), reject(error)),
      });
    });
    awaited.catch(() => undefined);
    return awaited;
  }

  private receive(message: Message): void {
    switch (message.kind) {
      case 'up':
        this.settle(0)?.resolve(undefined);
        return;
      case 'answer':
        this.settle(message.id)?.resolve(message.result);
        return;
      case 'failure':
        this.settle(message.id ?? 0)?.reject(new Error(this.describe(message.text)));
    }
  }

  private settle(id: number): Waiting | undefined {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    return waiting;
  }

  private handleExit(): void {
    this.over = true;
    for (const id of [...this.waiting.keys()])
      this.settle(id)?.reject(new Error(this.describe('has ended')));
  }

  private keep(chunk: Buffer): void {
    this.output = (this.output + chunk.toString()).slice(-OUTPUT_LIMIT);
  }

  private describe(what: string): string {
    const said = this.output === '' ? '' : `\n${this.output}`;
    return `${this.name} (pid ${this.pid}) ${what}${said}`;
  }
}
