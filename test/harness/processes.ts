import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const LOADER = new URL('../../tools/register-ts.mjs', import.meta.url).href;

/** A process of a test, told apart by the JSON lines that it prints and the messages that it sends. */
export class TestProcess {
  private readonly lines: string[] = [];
  private readonly messages: unknown[] = [];
  private readonly listeners = new Set<() => void>();
  private ended: { code: number | null; signal: NodeJS.Signals | null } | undefined;

  private constructor(readonly child: ChildProcess) {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => this.note(text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => this.note(text));
    child.on('message', (message) => {
      this.messages.push(message);
      this.tell();
    });
    child.on('exit', (code, signal) => {
      this.ended = { code, signal };
      this.tell();
    });
  }

  /** Starts a TypeScript file of test/processes. */
  static start(file: string, env: Record<string, string>): TestProcess {
    const path = fileURLToPath(new URL(`../processes/${file}`, import.meta.url));
    const child = spawn(process.execPath, ['--enable-source-maps', '--import', LOADER, path], {
      env: { PATH: process.env['PATH'] ?? '', ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    return new TestProcess(child);
  }

  /** A process that was started otherwise. */
  static of(child: ChildProcess): TestProcess {
    return new TestProcess(child);
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** Everything it printed. */
  get output(): string {
    return this.lines.join('');
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  send(message: object): void {
    this.child.send(message);
  }

  /** The first message that fits, sent already or to come. */
  async message<T extends { type: string }>(type: T['type'], limitMs = 15_000): Promise<T> {
    const find = (): T | undefined =>
      this.messages.find((m) => (m as T).type === type) as T | undefined;
    await this.until(
      () => find() !== undefined || this.ended !== undefined,
      `message ${type}`,
      limitMs,
    );
    const message = find();
    if (message === undefined)
      throw new Error(`the process ended without ${type}:\n${this.output}`);
    return message;
  }

  /** All messages of a type so far. */
  all<T extends { type: string }>(type: T['type']): T[] {
    return this.messages.filter((m) => (m as T).type === type) as T[];
  }

  /** How it ended. */
  async exit(limitMs = 15_000): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    await this.until(() => this.ended !== undefined, 'its end', limitMs);
    return this.ended ?? { code: null, signal: null };
  }

  /** Ends it whatever it does. */
  async destroy(): Promise<void> {
    if (this.ended !== undefined) return;
    this.child.kill('SIGKILL');
    await this.exit();
  }

  private note(text: string): void {
    this.lines.push(text);
    this.tell();
  }

  private tell(): void {
    for (const listener of [...this.listeners]) listener();
  }

  private until(done: () => boolean, what: string, limitMs: number): Promise<void> {
    if (done()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const finish = (error?: Error): void => {
        clearTimeout(timer);
        this.listeners.delete(check);
        if (error === undefined) resolve();
        else reject(error);
      };
      const check = (): void => {
        if (done()) finish();
      };
      const timer = setTimeout(
        () =>
          finish(
            new Error(`waited ${limitMs} ms for ${what} of process ${this.pid}:\n${this.output}`),
          ),
        limitMs,
      );
      this.listeners.add(check);
    });
  }
}
