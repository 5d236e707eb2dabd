import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { eventually } from '../harness/eventually.js';

const urlOf = (path: string): string => new URL(`../../${path}`, import.meta.url).href;
const ROOT = fileURLToPath(urlOf(''));
const IMPORTS = ['tools/register-ts.mjs', 'test/examples/from-source.mjs'].flatMap((path) => [
  '--import',
  urlOf(path),
]);

/** A program as a reader of the documentation starts it, on the sources instead of the built package. */
export class ExampleProcess {
  private readonly child: ChildProcess;
  private readonly ended: Promise<number | string>;
  /** What it printed so far, errors included. */
  text = '';

  constructor(file: string, args: readonly string[], env: Record<string, string>) {
    this.child = spawn(process.execPath, [...IMPORTS, file, ...args], {
      cwd: ROOT,
      env: { PATH: process.env['PATH'] ?? '', NO_COLOR: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding('utf8').on('data', (chunk: string) => (this.text += chunk));
    this.ended = new Promise((resolve) =>
      this.child.once('close', (code, signal) => resolve(code ?? signal ?? 'gone')),
    );
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** What it printed, once that matches. */
  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    return eventually(
      `output like ${pattern}`,
      () => {
        const found = pattern.exec(this.text);
        if (found === null) throw new Error(this.text);
        return found;
      },
      30_000,
    );
  }

  /** Its exit code, or the signal that ended it. */
  exit(): Promise<number | string> {
    return this.ended;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> {
    this.child.kill(signal);
    return this.ended;
  }
}
