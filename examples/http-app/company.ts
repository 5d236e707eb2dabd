import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WorkerCoordinator } from 'nestjs-functions';
import { chooseBackend, type BackendChoice } from '../backend-choice.js';
import { WorkerModule } from './worker.module.js';

const LOADER = new URL('../../tools/register-ts.mjs', import.meta.url).href;
const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url));

/** Longer than a worker's drain. */
const LEAVE_LIMIT_MS = 15_000;

/** What is different, by backend. */
const DIFFERENCE = {
  redis: 'workers are processes of their own.',
  memory: 'workers are applications of this process, and cannot be stopped or killed one by one.',
};

/** What the example brings along when it is run on its own; in a container others do. */
export class Company {
  private readonly workers = new Set<ChildProcess>();
  private readonly applications: INestApplicationContext[] = [];
  private backend: BackendChoice | undefined;
  private leaving = false;

  /** A backend, which it names in a line; all applications, and worker processes, find it in REDIS_URL. */
  async bringBackend(): Promise<void> {
    const backend = await chooseBackend('example');
    console.log(`Runs on ${backend.what}: ${DIFFERENCE[backend.kind]}`);
    this.backend = backend;
    process.env['REDIS_URL'] = backend.connection;
  }

  get hasBackend(): boolean {
    return this.backend !== undefined;
  }

  /** Resolves when all of them are ready. In memory nobody else could bring one: there is one at least. */
  async startWorkers(count: number): Promise<void> {
    const inMemory = this.backend?.kind === 'memory';
    const start = inMemory ? () => this.startApplication() : () => this.startProcess();
    await Promise.all(Array.from({ length: inMemory ? Math.max(1, count) : count }, start));
  }

  private async startApplication(): Promise<void> {
    const app = await NestFactory.createApplicationContext(WorkerModule, {
      logger: ['log', 'warn', 'error'],
      abortOnError: false,
    });
    this.applications.push(app);
    await app.get(WorkerCoordinator).whenActive();
  }

  private startProcess(): Promise<void> {
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

  /** Tells the workers to go, waits for them, and stops what they ran on. */
  async leave(): Promise<void> {
    this.prepareToLeave();
    const gone = [...this.workers].map(
      (worker) => new Promise((resolve) => worker.once('exit', resolve)),
    );
    for (const worker of this.workers) worker.kill('SIGTERM');
    const force = setTimeout(() => this.kill(), LEAVE_LIMIT_MS);
    await Promise.all(gone);
    clearTimeout(force);
    await Promise.all(this.applications.map((app) => app.close()));
    await this.backend?.stop();
  }

  private kill(): void {
    for (const worker of this.workers) worker.kill('SIGKILL');
  }
}
