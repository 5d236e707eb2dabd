import { Logger } from '@nestjs/common';
import type { NotificationBus } from '../backend/notification-bus.js';
import type { Clock } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { messageOf } from '../common/text.js';
import type { ListenerQuestion } from '../lifecycle/health-news.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import type { Keys, TelemetryType } from '../protocol/keys.js';
import type { Listeners } from './listeners.js';

/** Functions that are asked for at once; those of a process with more take turns. */
export const ASKED_AT_ONCE = 100;
/** Stands for all functions: what reaches it reaches a pattern that ends in `*`. */
const EVERY = functionRef('*', '*');
const TYPES: readonly TelemetryType[] = ['metrics', 'bottleneck'];

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
  private asked = new Map<string, FunctionRef>();

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
    if (this.listeners.isAllHeard(this.clock.elapsed())) return [];
    const all = this.hosted();
    const count = Math.min(ASKED_AT_ONCE, all.length);
    for (let index = 0; index < count; index += 1) {
      const ref = all[(this.turn + index) % all.length];
      if (ref === undefined) continue;
      for (const type of TYPES) this.asked.set(this.keys.telemetry(type, ref), ref);
    }
    this.turn = all.length === 0 ? 0 : (this.turn + count) % all.length;
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
    if (mayBePattern && (await this.findEvery())) return;
    for (const channel of channels) {
      const ref = asked.get(channel);
      if (ref === undefined) continue;
      if (!mayBePattern || (await this.probe(channel, ref)))
        this.listeners.found(ref.id, this.clock.elapsed(), this.holdMs);
    }
    if (this.listeners.isAnyHeard(this.clock.elapsed())) this.onFound();
  }

  private async findEvery(): Promise<boolean> {
    for (const type of TYPES) {
      if (!(await this.probe(this.keys.telemetry(type, EVERY), EVERY))) continue;
      this.listeners.found(undefined, this.clock.elapsed(), this.holdMs);
      this.onFound();
      return true;
    }
    return false;
  }

  private async probe(channel: string, ref: FunctionRef): Promise<boolean> {
    const { functionName, workflowId } = ref;
    const packet = { pattern: channel, data: { type: 'probe', functionName, workflowId } };
    return (await this.bus.publish(channel, JSON.stringify(packet))) > 0;
  }
}
