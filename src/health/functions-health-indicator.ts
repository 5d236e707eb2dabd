import { Inject, Injectable } from '@nestjs/common';
import { HealthIndicatorService, type HealthIndicatorResult } from '@nestjs/terminus';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, SETTINGS } from '../backend/tokens.js';
import { within, type Clock } from '../common/clock.js';
import type { Settings } from '../common/settings.js';
import { backendName, messageOf } from '../common/text.js';
import { CallConsumer } from '../execution/worker/call-consumer.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { functionRef } from '../protocol/function-ref.js';
import { FunctionReadinessWatcher } from '../readiness/function-readiness-watcher.js';

const PING_LIMIT_MS = 1_000;
/** An event loop that is later than this is stuck, whatever the lease. */
const MIN_LAG_LIMIT_MS = 5_000;

/** A function in a health body. */
export interface FunctionHealth {
  readonly functionName: string;
  readonly workflowId: string;
  readonly status: string;
  /** What it lacks; absent when nothing. */
  readonly lacks?: string;
}

/**
 * Health for Terminus: live, ready, started.
 *
 * @example
 * ```ts
 * @Get() @HealthCheck()
 * check() { return this.health.check([() => this.functions.ready('functions')]); }
 * ```
 */
@Injectable()
export class FunctionsHealthIndicator {
  constructor(
    @Inject(HealthIndicatorService) private readonly indicators: HealthIndicatorService,
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
    @Inject(CallConsumer) private readonly consumer: CallConsumer,
    @Inject(FunctionReadinessWatcher) private readonly watcher: FunctionReadinessWatcher,
  ) {}

  /** {@link ready} and {@link live} in one. */
  async check<const Key extends string = 'functions'>(
    key: Key = 'functions' as Key,
  ): Promise<HealthIndicatorResult> {
    const [readyProblem, body] = await this.readiness();
    const problem = readyProblem ?? this.livenessProblem();
    return this.answer(key, problem, { ...body, ...this.liveness() });
  }

  /**
   * Whether a restart would help: the read loop has turned recently and the event loop is not stuck. An
   * unreachable Redis is no reason to restart and does not count.
   */
  live(key = 'functions'): HealthIndicatorResult {
    return this.answer(key, this.livenessProblem(), this.liveness());
  }

  /**
   * Whether this process should get traffic: it is registered and not draining, Redis answers, and every
   * required function has a healthy worker.
   */
  async ready(key = 'functions'): Promise<HealthIndicatorResult> {
    const [problem, body] = await this.readiness();
    return this.answer(key, problem, body);
  }

  /** Whether the process has been registered once. */
  startup(key = 'functions'): HealthIndicatorResult {
    const { wasActive, state } = this.coordinator;
    return this.answer(key, wasActive ? undefined : `not registered yet (${state})`, { state });
  }

  private async readiness(): Promise<[problem: string | undefined, body: Record<string, unknown>]> {
    const { state } = this.coordinator;
    const redisProblem = await this.pingProblem();
    const functions = this.hosted();
    const required = await this.required(redisProblem === undefined);
    const lacking = [...functions, ...required].find(({ lacks }) => lacks !== undefined);
    const { sinceBeatMs } = this.coordinator;
    const stateProblem =
      state !== 'active'
        ? stateText(state)
        : sinceBeatMs > this.settings.leaseMs
          ? `its lease could not be kept for ${Math.round(sinceBeatMs)} ms`
          : undefined;
    const problem =
      (redisProblem === undefined
        ? undefined
        : `${backendName(this.backend.address)} does not answer: ${redisProblem}`) ??
      stateProblem ??
      (lacking === undefined
        ? undefined
        : `${lacking.functionName} (workflow ${lacking.workflowId}) lacks ${lacking.lacks}`);
    const body = {
      state,
      redis: redisProblem === undefined ? 'up' : 'down',
      readiness: this.watcher.degraded ? 'polling' : 'notifications',
      functions,
      required,
    };
    return [problem, body];
  }

  private hosted(): FunctionHealth[] {
    const broken = new Set(this.consumer.broken().map((ref) => ref.id));
    return this.coordinator.workers().map(({ ref, workerId, registered, status, reason }) => ({
      functionName: ref.functionName,
      workflowId: ref.workflowId,
      workerId,
      status: registered ? status : 'not registered',
      ...(reason === undefined ? {} : { reason }),
      ...(registered ? {} : { lacks: 'its registration' }),
      ...(broken.has(ref.id) ? { lacks: 'a stream: its key in Redis holds something else' } : {}),
    }));
  }

  private async required(redisAnswers: boolean): Promise<FunctionHealth[]> {
    return Promise.all(
      (this.settings.health?.required ?? []).map(async ({ functionName, workflowId }) => {
        const watch = this.watcher.watch(functionRef(functionName, workflowId));
        if (!watch.view.synced && redisAnswers) await watch.read();
        const healthyWorkers = watch.view.healthy;
        return {
          functionName,
          workflowId,
          healthyWorkers,
          status: healthyWorkers > 0 ? 'available' : 'unavailable',
          ...(healthyWorkers > 0 ? {} : { lacks: `a healthy worker (${watch.situation()})` }),
        };
      }),
    );
  }

  private async pingProblem(): Promise<string | undefined> {
    if (!this.backend.isConnected()) return `no connection to ${this.backend.address}`;
    try {
      await within(
        this.clock,
        PING_LIMIT_MS,
        this.backend.ping(),
        () => new Error(`no answer within ${PING_LIMIT_MS} ms`),
      );
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  private liveness(): Record<string, unknown> {
    const { hosted, inFlight, sinceTurnMs } = this.consumer.report();
    return {
      eventLoopLagMs: Math.round(this.coordinator.eventLoopLagMs),
      readLoop: hosted === 0 ? 'none' : { lastTurnMs: Math.round(sinceTurnMs), inFlight },
    };
  }

  private livenessProblem(): string | undefined {
    const lag = this.coordinator.eventLoopLagMs;
    if (lag > Math.max(this.settings.leaseMs, MIN_LAG_LIMIT_MS))
      return `the event loop is ${Math.round(lag)} ms late`;
    const { sinceTurnMs, turnLimitMs } = this.consumer.report();
    if (
      this.coordinator.state !== 'active' ||
      !this.backend.isConnected() ||
      sinceTurnMs <= turnLimitMs
    )
      return undefined;
    return `the read loop has not turned for ${Math.round(sinceTurnMs)} ms`;
  }

  private answer(
    key: string,
    problem: string | undefined,
    body: Record<string, unknown>,
  ): HealthIndicatorResult {
    const session = this.indicators.check(key);
    return problem === undefined ? session.up(body) : session.down({ message: problem, ...body });
  }
}

function stateText(state: string): string {
  switch (state) {
    case 'draining':
    case 'stopped':
      return 'this process is shutting down';
    default:
      return 'this process is not registered yet';
  }
}
