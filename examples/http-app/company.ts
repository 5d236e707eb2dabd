import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const LOADER = new URL('../../tools/register-ts.mjs', import.meta.url).href;
const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url));

/** Longer than a worker's drain. */
const LEAVE_LIMIT_MS = 15_000;

/** What the example brings along when it is run on its own; in a container others do. */
export class Company {
  private readonly workers = new Set<ChildProcess>();
  private leaving = false;
  private stopRedis: (() => Promise<void>) | undefined;

  /** A Redis, if REDIS_URL names none; the worker processes read the variable, too. */
  async bringRedis(): Promise<void> {
    if (process.env['REDIS_URL']) return;
    const { obtainRedis } = await import('../../tools/redis.mjs');
    const redis = await obtainRedis();
    this.stopRedis = () => redis.stop();
    process.env['REDIS_URL'] = redis.url;
  }

  /** Resolves when all of them are ready. */
  async startWorkers(count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.startWorker()));
  }

  private startWorker(): Promise<void> {
    const args = [...process.execArgv, '--import', LOADER, WORKER];
    const worker = spawn(process.execPath, args, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.workers.add(worker);
    return new Promise((resolve, reject) => {
      worker.once('message', () => resolve());
      worker.once('exit', (code, signal) => {
        this.workers.delete(worker);
        if (!this.leaving)
          reject(new Error(`worker ${worker.pid} ended (${code ?? signal}) before it was ready`));
      });
    });
  }

  get pids(): number[] {
    return [...this.workers].map(({ pid }) => pid ?? -1);
  }

  /** From here on a worker that ends does what it should: Ctrl-C reaches all processes of the terminal at once. */
  prepareToLeave(): void {
    this.leaving = true;
  }

  /** Tells the workers to go, waits for them, and stops the Redis. */
  async leave(): Promise<void> {
    this.prepareToLeave();
    const gone = [...this.workers].map(
      (worker) => new Promise((resolve) => worker.once('exit', resolve)),
    );
    for (const worker of this.workers) worker.kill('SIGTERM');
    const force = setTimeout(() => this.kill(), LEAVE_LIMIT_MS);
    await Promise.all(gone);
    clearTimeout(force);
    await this.stopRedis?.();
  }

  private kill(): void {
    for (const worker of this.workers) worker.kill('SIGKILL');
  }
}
