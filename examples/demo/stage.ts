import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Notification } from 'nestjs-functions';
import { obtainRedis, type ObtainedRedis } from '../../tools/redis.mjs';
import { Child } from './child.js';
import type { DemoEnvironment } from './environment.js';
import { HealthSampler } from './health-sampler.js';
import type { ChildEvent } from './messages.js';
import { findPages, type Library } from './pages.js';
import { RunLog } from './run-log.js';
import type { Timeline } from './timeline.js';
import { type Row } from './timeline.js';

const WAIT_LIMIT_MS = 60_000;
const WORKERS = 3;
/** A Redis that went away is not cleaned. */
const CLEAN_LIMIT_MS = 1_000;

/** What a scene adds to the table and to the verdict. */
export interface SceneResult {
  readonly rows: readonly Row[];
  readonly checks: readonly Check[];
}

/** Something that has to hold for the exit code 0. */
export interface Check {
  readonly what: string;
  readonly holds: boolean;
}

interface Parts {
  readonly redis: ObtainedRedis;
  readonly environment: Omit<DemoEnvironment, 'port' | 'workerId'>;
  readonly runs: RunLog;
  readonly ports: readonly number[];
  readonly library: Library;
}

/** Everything that runs: Redis, one caller, up to three workers. What is started here is stopped here. */
export class Stage {
  readonly workerNames = Array.from({ length: WORKERS }, (_, index) => `worker-${index + 1}`);
  private readonly children = new Set<Child>();
  private readonly samplers = new Map<string, HealthSampler>();
  private readonly listeners = new Set<(event: ChildEvent) => void>();
  private currentCaller: Child | undefined;
  private closing: Promise<void> | undefined;

  private constructor(
    readonly timeline: Timeline,
    private readonly parts: Parts,
  ) {}

  static async open(timeline: Timeline): Promise<Stage> {
    const redis = await obtainRedis();
    const keyPrefix = `demo-${process.pid}-${Date.now().toString(36)}:`;
    const runsKey = `${keyPrefix}runs`;
    const runs = new RunLog(redis.url, runsKey);
    const folder = await mkdtemp(join(tmpdir(), 'nestjs-functions-demo-'));
    const environment = { redisUrl: redis.url, keyPrefix, runsKey, folder };
    const [ports, library] = await Promise.all([freePorts(WORKERS + 1), findPages()]);
    const stage = new Stage(timeline, { redis, environment, runs, ports, library });
    const { host } = new URL(redis.url);
    timeline.event('redis', `${await runs.serverVersion()} on ${host}`);
    return stage;
  }

  get runs(): RunLog {
    return this.parts.runs;
  }

  get library(): Library {
    return this.parts.library;
  }

  get caller(): Child {
    if (this.currentCaller === undefined) throw new Error('the caller is not started');
    return this.currentCaller;
  }

  async startCaller(): Promise<void> {
    this.currentCaller = this.spawn('caller', './caller.ts', 0);
    await this.until(({ event }) => event === 'up', 'the caller to be up');
  }

  /** Starts a worker process; its `ready` is news. */
  startWorker(name: string): Child {
    return this.spawn(name, './worker.ts', this.workerNames.indexOf(name) + 1);
  }

  /** Samples /health/ready of a process, and prints every change. */
  watchHealth(name: string): void {
    const slot = this.workerNames.indexOf(name) + 1;
    const sampler = new HealthSampler(this.parts.ports[slot] ?? 0, ({ code, reason }) =>
      this.timeline.event(name, `/health/ready ${code}${reason === '' ? '' : ` (${reason})`}`),
    );
    this.samplers.set(name, sampler);
    sampler.start();
  }

  get health(): ReadonlyMap<string, HealthSampler> {
    return this.samplers;
  }

  /** The next event of any child that fits. */
  until<T extends ChildEvent>(fits: (event: ChildEvent) => event is T, what: string): Promise<T>;
  until(fits: (event: ChildEvent) => boolean, what: string): Promise<ChildEvent>;
  until(fits: (event: ChildEvent) => boolean, what: string): Promise<ChildEvent> {
    const awaited = new Promise<ChildEvent>((resolve, reject) => {
      const timer = setTimeout(
        () => finish(() => reject(new Error(`waited ${WAIT_LIMIT_MS} ms for ${what}`))),
        WAIT_LIMIT_MS,
      );
      timer.unref();
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.listeners.delete(listener);
        settle();
      };
      const listener = (event: ChildEvent): void => {
        if (fits(event)) finish(() => resolve(event));
      };
      this.listeners.add(listener);
    });
    awaited.catch(() => undefined);
    return awaited;
  }

  /** The next news of a worker. */
  async news<T extends Notification['type']>(
    workerId: string,
    type: T,
  ): Promise<Extract<Notification, { type: T }>> {
    const isNews = (event: ChildEvent): event is Extract<ChildEvent, { event: 'news' }> =>
      event.event === 'news' && event.news.workerId === workerId && event.news.type === type;
    const { news } = await this.until(isNews, `${type} of ${workerId}`);
    return news as Extract<Notification, { type: T }>;
  }

  on(listener: (event: ChildEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Ends all processes by their pids, then Redis; safe to call twice. */
  close(): Promise<void> {
    this.closing ??= this.closeOnce();
    return this.closing;
  }

  private async closeOnce(): Promise<void> {
    const { runs, environment, redis } = this.parts;
    await Promise.all([...this.samplers.values()].map((sampler) => sampler.stop()));
    await Promise.all([...this.children].map((child) => child.stop()));
    await Promise.race([runs.removeKeys(environment.keyPrefix), pause(CLEAN_LIMIT_MS)]).catch(
      () => undefined,
    );
    runs.close();
    await rm(environment.folder, { recursive: true, force: true });
    await redis.stop();
  }

  private spawn(name: string, file: string, slot: number): Child {
    if (this.closing !== undefined) throw new Error('the demo has ended');
    const port = this.parts.ports[slot] ?? 0;
    const child = new Child(name, file, { ...this.parts.environment, workerId: name, port });
    this.children.add(child);
    void child.exited.then(() => this.children.delete(child));
    child.on((event) => {
      for (const listener of [...this.listeners]) listener(event);
    });
    return child;
  }
}

/** Ports that nobody listens on now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) =>
          server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)),
        ),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
