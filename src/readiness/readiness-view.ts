import type { FunctionSnapshot } from '../backend/worker-store.js';
import type { FunctionDefinition } from '../protocol/definition.js';
import type { Notification } from '../protocol/notification.js';
import type { WorkerStatus } from '../protocol/worker-record.js';

/** A worker as a process knows it from memory. */
export interface KnownWorker {
  readonly workerId: string;
  readonly epoch: number;
  readonly seq: number;
  readonly status: WorkerStatus | 'gone';
  readonly reason: string | undefined;
  /** The generation of the workflow that it has loaded; unknown of one of an older library. */
  readonly generation?: number | undefined;
}

/** What a worker became, and when by Redis's clock. */
export interface WorkerNews extends KnownWorker {
  readonly timestamp: number;
}

/** What an applied notification changed. */
export type Applied =
  /** Older than what is known, or about a worker that left before the last read. */
  | 'stale'
  | 'applied'
  /** Says something about a worker that the view does not know: the registry has to be read. */
  | 'unknown-worker';

/** A read of the registry that is under way. */
export interface Sync {
  /** Workers that were heard of since it began. */
  readonly touched: Set<string>;
}

const GONE_LIMIT = 256;

/**
 * The workers of one function, from memory. Pure: no I/O, no clock.
 *
 * Two sources meet here, in any order: snapshots of the registry, and notifications. What makes every order
 * end in the same state:
 *
 * - Per worker the higher (epoch, seq) wins; both are given by Redis in the step that changes the record.
 * - What was heard before a read began is in what it read, so the snapshot decides, whatever was heard: a
 *   notification that was written by hand, or by a Redis that lost its data since, holds until the next read.
 * - ready, then the snapshot that was taken before it (two connections): the worker is missing in the
 *   snapshot, or older there, but was touched while the read was under way, so the notification stays.
 * - The snapshot, then a ready that was published before it and whose worker is gone again by then: its
 *   timestamp is older than the snapshot's (both are Redis's clock), so it is stale.
 * - offline, then a ready of before (a pattern and a channel listener, a slow socket): the offline worker is
 *   remembered as gone with its (epoch, seq) until the next snapshot.
 */
export class ReadinessView {
  private readonly known = new Map<string, KnownWorker>();
  private sync: Sync | undefined;
  private syncedAt = -1;
  private healthyCount = 0;
  private registeredCount = 0;
  private currentDefinition: FunctionDefinition | undefined;
  private currentFingerprint = '';

  /** Whether the registry was read at least once. */
  get synced(): boolean {
    return this.syncedAt >= 0;
  }

  /** Workers that can take a call now. */
  get healthy(): number {
    return this.healthyCount;
  }

  /** Workers that are registered, able or not. */
  get registered(): number {
    return this.registeredCount;
  }

  /** The function's definition as of the last read. */
  get definition(): FunctionDefinition | undefined {
    return this.currentDefinition;
  }

  /** Fingerprint of that definition. */
  get fingerprint(): string {
    return this.currentFingerprint;
  }

  /** All workers that are registered. */
  workers(): KnownWorker[] {
    return [...this.known.values()].filter((worker) => worker.status !== 'gone');
  }

  /** One that can take a call, the one that has been there longest. */
  firstHealthy(): KnownWorker | undefined {
    for (const worker of this.known.values()) if (worker.status === 'ready') return worker;
    return undefined;
  }

  /** Whether a worker that has loaded this generation of the workflow can take a call. */
  healthyOf(generation: number): boolean {
    for (const worker of this.known.values())
      if (worker.generation === generation && worker.status === 'ready') return true;
    return false;
  }

  /** Notes that the registry is being read from here on; what an earlier read still brings is ignored. */
  beginSync(): Sync {
    this.sync = { touched: new Set() };
    return this.sync;
  }

  /** The read failed: nothing is learnt from it. */
  abandonSync(sync: Sync): void {
    if (this.sync === sync) this.sync = undefined;
  }

  /** Merges what the registry said. */
  applySnapshot(snapshot: FunctionSnapshot, sync: Sync): void {
    // Reads can overtake each other: only the one that began last knows who was heard of since.
    if (this.sync !== sync) return;
    this.sync = undefined;
    this.syncedAt = snapshot.timestamp;
    this.currentDefinition = snapshot.definition;
    this.currentFingerprint = snapshot.fingerprint;
    const listed = new Set(snapshot.workers.map((worker) => worker.workerId));
    for (const workerId of [...this.known.keys()]) {
      if (!listed.has(workerId) && !sync.touched.has(workerId)) this.known.delete(workerId);
    }
    for (const { workerId, epoch, seq, status, reason, generation } of snapshot.workers) {
      const before = sync.touched.has(workerId) ? this.known.get(workerId) : undefined;
      if (before !== undefined && isNewer(before, { epoch, seq })) continue;
      this.known.set(workerId, { workerId, epoch, seq, status, reason, generation });
    }
    this.recount();
  }

  /** Applies a notification. */
  applyNotification(notification: Notification): Applied {
    const { workerId, epoch, seq, timestamp } = notification;
    const isUnknown = !this.known.has(workerId) && timestamp >= this.syncedAt;
    if (isUnknown && notification.type === 'health') return 'unknown-worker';
    const { status, reason, generation } = statusOf(notification);
    return this.applyNews({ workerId, epoch, seq, timestamp, status, reason, generation });
  }

  /** Applies what a change of the registry made of a worker: as good as its notification. */
  applyNews(news: WorkerNews): 'applied' | 'stale' {
    const { workerId, epoch, seq, status, reason } = news;
    const before = this.known.get(workerId);
    const isStale = before === undefined ? news.timestamp < this.syncedAt : !isNewer(news, before);
    if (isStale) return 'stale';
    this.sync?.touched.add(workerId);
    // Only `ready` says it, and it holds for all of that life.
    const generation = news.generation ?? (before?.epoch === epoch ? before.generation : undefined);
    this.known.set(workerId, { workerId, epoch, seq, status, reason, generation });
    this.recount();
    return 'applied';
  }

  private recount(): void {
    let healthy = 0;
    let gone = 0;
    for (const worker of this.known.values()) {
      if (worker.status === 'ready') healthy += 1;
      else if (worker.status === 'gone') gone += 1;
    }
    this.healthyCount = healthy;
    this.registeredCount = this.known.size - gone;
    if (gone > GONE_LIMIT) this.forgetOldestGone(gone - GONE_LIMIT);
  }

  private forgetOldestGone(count: number): void {
    let left = count;
    for (const [workerId, worker] of this.known) {
      if (left === 0) return;
      if (worker.status === 'gone' && this.known.delete(workerId)) left -= 1;
    }
  }
}

function isNewer(a: { epoch: number; seq: number }, b: { epoch: number; seq: number }): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq);
}

function statusOf(
  notification: Notification,
): Pick<KnownWorker, 'status' | 'reason' | 'generation'> {
  switch (notification.type) {
    case 'ready':
      return {
        status: notification.healthy === false ? 'unhealthy' : 'ready',
        reason: undefined,
        generation: notification.generation,
      };
    case 'shutdown':
      return { status: 'draining', reason: undefined };
    case 'offline':
      return { status: 'gone', reason: notification.reason };
    case 'health':
      return { status: notification.healthy ? 'ready' : 'unhealthy', reason: notification.reason };
  }
}
