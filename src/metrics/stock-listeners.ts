import { Logger } from '@nestjs/common';
import type { NotificationBus } from '../backend/notification-bus.js';
import type { Clock } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { messageOf } from '../common/text.js';
import { takeInTurn } from '../common/turns.js';
import type { ListenerQuestion } from '../lifecycle/health-news.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import type { Keys, TelemetryType } from '../protocol/keys.js';
import { ALL, BOTTLENECKS, type Listeners } from './listeners.js';

/** Functions that are asked for at once; those of a process with more take turns. */
export const ASKED_AT_ONCE = 100;
/** Channels that are asked by a message, at once: patterns of others on the same server must not cost more. */
export const PROBED_AT_ONCE = 10;
/** What a subscriber of a channel listens to. */
interface Asked {
  readonly type: TelemetryType;
  readonly ref: FunctionRef;
  readonly subject: string;
}

/** Stands for all functions: what reaches it reaches a pattern that ends in `*`. */
const EVERY = functionRef('*', '*');
const EVERYTHING: readonly Asked[] = [
  { type: 'metrics', ref: EVERY, subject: ALL },
  { type: 'bottleneck', ref: EVERY, subject: BOTTLENECKS },
];

/**
 * Finds subscribers that do not say that they listen: a stock Nest application, `redis-cli`. It asks along with the
 * question that the heartbeat asks for health news, once per lease.
 *
 * Redis knows who subscribes to a channel, and of patterns only that there are some. Where there are, a message that
 * asks (`probe`) finds out: how many received it says whether one of the patterns was meant.
 */
export class StockListeners implements ListenerQuestion {
  private readonly logger = new Logger('METRICS');
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private turn = 0;
  private asked = new Map<string, Asked>();

  constructor(
    private readonly bus: NotificationBus,
    private readonly keys: Keys,
    private readonly clock: Clock,
    private readonly listeners: Listeners,
    private readonly hosted: () => readonly FunctionRef[],
    /** What was found holds until it is asked for again. */
    private readonly holdMs: number,
    private readonly onFound: () => void,
  ) {}

  channels(): string[] {
    this.asked.clear();
    const now = this.clock.elapsed();
    const asksMetrics = !this.listeners.isAllHeard(now);
    const asksBottlenecks = !this.listeners.areBottlenecksHeard(now);
    if (!asksMetrics && !asksBottlenecks) return [];
    for (const ref of this.next()) {
      if (asksMetrics) this.ask({ type: 'metrics', ref, subject: ref.id });
      if (asksBottlenecks) this.ask({ type: 'bottleneck', ref, subject: BOTTLENECKS });
    }
    return [...this.asked.keys()];
  }

  /** A question that cannot be asked now is asked again with the next lease. */
  async heard(channels: readonly string[]): Promise<void> {
    try {
      await this.look(channels);
    } catch (error) {
      this.trouble.tell(`who listens to metrics is not found out: ${messageOf(error)}`);
    }
  }

  private async look(channels: readonly string[]): Promise<void> {
    const { asked } = this;
    // All at once is what a pattern looks like, whatever it is for.
    const mayBePattern = channels.length > 0 && channels.length === asked.size;
    const found = channels.flatMap((channel) => asked.get(channel) ?? []);
    if (!mayBePattern) for (const { subject } of found) this.note(subject);
    else
      for (const one of [...EVERYTHING, ...someOf(found)])
        if (!this.isKnown(one)) await this.probe(one);
    if (this.listeners.isAnyHeard(this.clock.elapsed())) this.onFound();
  }

  private isKnown({ type, subject }: Asked): boolean {
    const now = this.clock.elapsed();
    return type === 'metrics'
      ? this.listeners.isHeard(subject, now)
      : this.listeners.areBottlenecksHeard(now);
  }

  /** Functions whose turn it is. */
  private next(): FunctionRef[] {
    const next = takeInTurn(this.hosted(), this.turn, ASKED_AT_ONCE);
    this.turn += next.length;
    return next;
  }

  private ask(asked: Asked): void {
    this.asked.set(this.keys.telemetry(asked.type, asked.ref), asked);
  }

  private note(subject: string): void {
    this.listeners.found(subject, this.clock.elapsed(), this.holdMs);
  }

  private async probe({ type, ref, subject }: Asked): Promise<void> {
    const channel = this.keys.telemetry(type, ref);
    const { functionName, workflowId } = ref;
    const packet = { pattern: channel, data: { type: 'probe', functionName, workflowId } };
    if ((await this.bus.publish(channel, JSON.stringify(packet))) > 0) this.note(subject);
  }
}

/** Others each time, so that each has its turn. */
function someOf(all: readonly Asked[]): Asked[] {
  return takeInTurn(all, Math.floor(Math.random() * all.length), PROBED_AT_ONCE);
}
