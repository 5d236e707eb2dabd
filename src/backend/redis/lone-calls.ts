import { systemClock, type Timer } from '../../common/clock.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type { RedisConnection } from './redis-connection.js';
import { runScript, scripts } from './scripts.js';

/** How long after a call was added by itself it is looked whether that was enough. */
export const CONFIRM_AFTER_MS = 50;
/** What is known of a function is relied on for so long. */
const KNOWN_FOR_MS = 10_000;
/** Functions of which something is known, at the most. */
const MAX_KNOWN = 10_000;
const FUNCTIONS_PER_SCRIPT = 500;
/** Calls that may be added by themselves between two looks, as a part of the backlog that is allowed. */
const BACKLOG_PART = 20;

interface Known {
  readonly ref: FunctionRef;
  /** When it was looked at; -Infinity: it was not yet. */
  at: number;
  /** Whether somebody hears its calls by a bell, or it cannot be read: only the script will do. */
  needsScript: boolean;
  /** Calls that may still be added by themselves. */
  left: number;
  awaitsLook: boolean;
  /** Whether calls were added by themselves since the last look. */
  added: boolean;
  maxBacklog: number;
}

/**
 * Says which calls can be added with a bare XADD, which takes Redis and its client less time than the script that
 * bounds the backlog and rings for processes with many functions. Measured, beside one that always takes the script, it is
 * a tenth of a lone call's p50.
 *
 * A function is taken for one without a bell, and with room in its backlog, because a look said so; and after every
 * such call there is another look, which rings if that was wrong. Interleavings with a process that begins to hear
 * the function by a bell:
 *
 * - it registers before the call is added: the look that follows finds the bell, and rings for the call
 * - it registers after: registering rings, because there is a call
 *
 * So a call waits for CONFIRM_AFTER_MS at the worst, once per change of that kind; when its caller dies in that time, for
 * the function's next call. A look that fails is repeated on
 * the next connection. Between two looks each caller adds at most a twentieth of the backlog that is allowed, and only
 * while less than half of it is there.
 */
export class LoneCalls {
  private readonly known = new Map<string, Known>();
  private waiting: Known[] = [];
  private timer: Timer | undefined;

  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
  ) {
    commands.onReady(() => this.reconnected());
  }

  /** Whether a call of the function can be added by itself now. */
  take(ref: FunctionRef, maxBacklog: number): boolean {
    const known = this.known.get(ref.id) ?? this.add(ref);
    known.maxBacklog = maxBacklog;
    const isKnown = systemClock.elapsed() - known.at < KNOWN_FOR_MS;
    if (isKnown && known.needsScript) return false;
    if (!known.awaitsLook) this.lookLater(known);
    if (!isKnown || known.left < 1) return false;
    known.left -= 1;
    known.added = true;
    return true;
  }

  /** The script that added a call has seen that the function has a bell: nothing is left to look at. */
  spare(functionId: string): void {
    const known = this.known.get(functionId);
    if (known === undefined || !known.awaitsLook || known.added) return;
    known.awaitsLook = false;
    this.waiting = this.waiting.filter((one) => one !== known);
  }

  private add(ref: FunctionRef): Known {
    if (this.known.size >= MAX_KNOWN) this.known.clear();
    const known = {
      ref,
      at: -Infinity,
      needsScript: false,
      left: 0,
      awaitsLook: false,
      added: false,
      maxBacklog: 0,
    };
    this.known.set(ref.id, known);
    return known;
  }

  private lookLater(known: Known): void {
    known.awaitsLook = true;
    this.waiting.push(known);
    this.wait();
  }

  private wait(): void {
    this.timer ??= systemClock.after(CONFIRM_AFTER_MS, () => {
      this.timer = undefined;
      void this.look();
    });
  }

  /** It may be another server, or one that was emptied. */
  private reconnected(): void {
    for (const known of this.known.values()) known.at = -Infinity;
    if (this.waiting.length > 0) this.wait();
  }

  private async look(): Promise<void> {
    const waiting = this.waiting.splice(0, FUNCTIONS_PER_SCRIPT);
    if (waiting.length === 0) return;
    // What is added from here on needs another look.
    for (const known of waiting) known.awaitsLook = known.added = false;
    if (this.waiting.length > 0) void this.look();
    const at = systemClock.elapsed();
    const keys = waiting.map(({ ref }) => this.keys.calls(ref));
    const answer = await this.commands
      .command('confirm', (client) => runScript(client, scripts.confirm, keys, []))
      .catch(() => undefined);
    if (answer === undefined) this.waiting.push(...waiting.filter((known) => !known.awaitsLook));
    for (const [index, known] of waiting.entries()) {
      if (answer === undefined) known.awaitsLook = known.added = true;
      else note(known, (answer as number[])[index] ?? -1, at);
    }
  }
}

function note(known: Known, length: number, at: number): void {
  known.at = at;
  known.needsScript = length < 0;
  const hasRoom = length >= 0 && length * 2 <= known.maxBacklog;
  known.left = hasRoom ? Math.floor(known.maxBacklog / BACKLOG_PART) : 0;
}
