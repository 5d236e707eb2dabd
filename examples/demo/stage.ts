import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Notification } from 'nestjs-functions';
import type { BackendChoice } from '../backend-choice.js';
import type { Actor } from './actor.js';
import { ApplicationActor } from './application-actor.js';
import type { DemoEnvironment } from './environment.js';
import { HealthSampler } from './health-sampler.js';
import type { ActorEvent } from './messages.js';
import { findPages, type Library } from './pages.js';
import { MemoryRunLog } from './memory-run-log.js';
import { ProcessActor } from './process-actor.js';
import { RedisRunLog } from './redis-run-log.js';
import type { RunLog } from './run-log.js';
import type { Row, Timeline } from './timeline.js';

const WAIT_LIMIT_MS = 60_000;
const WORKERS = 3;

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
  readonly backend: BackendChoice;
  readonly environment: Omit<DemoEnvironment, 'role' | 'port' | 'workerId'>;
  readonly runs: RunLog;
  readonly ports: readonly number[];
  readonly library: Library;
}

/** Everything that runs: one caller, up to four workers. What is started here is stopped here, and the backend with it. */
export class Stage {
  readonly workerNames = Array.from({ length: WORKERS }, (_, index) => `worker-${index + 1}`);
  /** A worker more, for the scene that needs one of another kind. */
  readonly guestName = `worker-${WORKERS + 1}`;
  private readonly actors = new Set<Actor>();
  private readonly samplers = new Map<string, HealthSampler>();
  private readonly listeners = new Set<(event: ActorEvent) => void>();
  private currentCaller: Actor | undefined;
  private closing: Promise<void> | undefined;

  private constructor(
    readonly timeline: Timeline,
    private readonly parts: Parts,
  ) {}

  static async open(timeline: Timeline, backend: BackendChoice): Promise<Stage> {
    const { kind, connection } = backend;
    const keyPrefix = `demo-${process.pid}-${Date.now().toString(36)}:`;
    const runsKey = `${keyPrefix}runs`;
    const [runs, folder, ports, library] = await Promise.all([
      kind === 'memory' ? new MemoryRunLog() : redisRunLog(connection, runsKey, timeline),
      mkdtemp(join(tmpdir(), 'nestjs-functions-demo-')),
      freePorts(WORKERS + 2),
      findPages(),
    ]);
    const environment = { connection, keyPrefix, runsKey, folder };
    return new Stage(timeline, { backend, environment, runs, ports, library });
  }

  /** Whether actors are processes, which can be killed. */
  get hasProcesses(): boolean {
    return this.parts.backend.kind === 'redis';
  }

  get runs(): RunLog {
    return this.parts.runs;
  }

  get library(): Library {
    return this.parts.library;
  }

  get caller(): Actor {
    if (this.currentCaller === undefined) throw new Error('the caller is not started');
    return this.currentCaller;
  }

  async startCaller(): Promise<void> {
    this.currentCaller = this.engage('caller', { role: 'caller' });
    await this.until(({ event }) => event === 'up', 'the caller to be up');
  }

  /** Starts a worker; its `ready` is news. */
  startWorker(name: string, drainTimeoutMs?: number): Actor {
    return this.engage(name, { role: 'worker', drainTimeoutMs });
  }

  /** Samples /health/ready of a process, and prints every change. */
  watchHealth(name: string): void {
    const sampler = new HealthSampler(this.portOf(name), ({ code, reason }) =>
      this.timeline.event(name, `/health/ready ${code}${reason === '' ? '' : ` (${reason})`}`),
    );
    this.samplers.set(name, sampler);
    sampler.start();
  }

  get health(): ReadonlyMap<string, HealthSampler> {
    return this.samplers;
  }

  /** The next event of any actor that fits. */
  until<T extends ActorEvent>(fits: (event: ActorEvent) => event is T, what: string): Promise<T>;
  until(fits: (event: ActorEvent) => boolean, what: string): Promise<ActorEvent>;
  until(fits: (event: ActorEvent) => boolean, what: string): Promise<ActorEvent> {
    const awaited = new Promise<ActorEvent>((resolve, reject) => {
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
      const listener = (event: ActorEvent): void => {
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
    const isNews = (event: ActorEvent): event is Extract<ActorEvent, { event: 'news' }> =>
      event.event === 'news' && event.news.workerId === workerId && event.news.type === type;
    const { news } = await this.until(isNews, `${type} of ${workerId}`);
    return news as Extract<Notification, { type: T }>;
  }

  on(listener: (event: ActorEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Ends all actors, then what they ran on; safe to call twice. */
  close(): Promise<void> {
    this.closing ??= this.closeOnce();
    return this.closing;
  }

  private async closeOnce(): Promise<void> {
    const { runs, environment, backend } = this.parts;
    await Promise.all([...this.samplers.values()].map((sampler) => sampler.stop()));
    await Promise.all([...this.actors].map((actor) => actor.stop()));
    await runs.close(environment.keyPrefix);
    await rm(environment.folder, { recursive: true, force: true });
    await backend.stop();
  }

  private engage(name: string, part: Pick<DemoEnvironment, 'role' | 'drainTimeoutMs'>): Actor {
    if (this.closing !== undefined) throw new Error('the demo has ended');
    const { environment, runs } = this.parts;
    const mine = { ...environment, ...part, workerId: name, port: this.portOf(name) };
    const actor = this.hasProcesses
      ? new ProcessActor(name, mine)
      : new ApplicationActor(name, mine, runs);
    this.actors.add(actor);
    void actor.ended.then(() => this.actors.delete(actor));
    actor.on((event) => {
      for (const listener of [...this.listeners]) listener(event);
    });
    return actor;
  }

  /** The caller's is the first. */
  private portOf(name: string): number {
    return this.parts.ports[[...this.workerNames, this.guestName].indexOf(name) + 1] ?? 0;
  }
}

async function redisRunLog(url: string, key: string, timeline: Timeline): Promise<RunLog> {
  const runs = new RedisRunLog(url, key);
  timeline.event('redis', `version ${await runs.serverVersion()}`);
  return runs;
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
