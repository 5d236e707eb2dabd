import { CALL_FIELDS, partsOf, parseCall, type CallEntry } from '../../protocol/call.js';
import { decodeJson } from '../../protocol/json.js';
import { isMalformed } from '../../protocol/notification.js';

const KEPT_FAILURES = 10;

/** Fields of a call's entry by name: a copy of its own, for what becomes another entry. */
export class CallFields {
  private readonly byName = new Map<string, string>();
  private readonly call: CallEntry | undefined;

  constructor(id: string, flat: readonly string[]) {
    for (let at = 0; at + 1 < flat.length; at += 2)
      this.byName.set(flat[at] as string, flat[at + 1] as string);
    const call = parseCall(id, flat);
    this.call = isMalformed(call) ? undefined : call;
  }

  /** The call as its worker reads it; `undefined` when it cannot be read. */
  get entry(): CallEntry | undefined {
    return this.call;
  }

  /** Whom its answer goes to. */
  get addressee(): { callId: string; replyTo: string; key: string | undefined } {
    const { callId, replyTo } = this.call ?? partsOf(this.flat());
    return { callId, replyTo, key: this.byName.get(CALL_FIELDS.idempotencyKey) };
  }

  get isAtMostOnce(): boolean {
    return this.call?.delivery === 'at-most-once';
  }

  get(name: string): string | undefined {
    return this.byName.get(name);
  }

  /** A count; `otherwise` when there is none, or something else. */
  count(name: string, otherwise: number): number {
    const value = Number(this.byName.get(name) ?? otherwise);
    return Number.isFinite(value) ? value : otherwise;
  }

  set(name: string, value: string | number): void {
    this.byName.set(name, String(value));
  }

  /** Keeps when the call's time began to run, which its id tells as long as it is the first one. */
  keepOrigin(): void {
    if (this.call !== undefined) this.set(CALL_FIELDS.origin, this.call.submittedAt);
  }

  /** One more line in the history of what went wrong, of which the last ten are kept. */
  note(failure: unknown): void {
    const history = [...this.history(), failure].slice(-KEPT_FAILURES);
    this.set(CALL_FIELDS.history, JSON.stringify(history));
  }

  flat(): string[] {
    return [...this.byName].flat();
  }

  private history(): readonly unknown[] {
    try {
      const history = decodeJson(this.byName.get(CALL_FIELDS.history) ?? '[]');
      return Array.isArray(history) ? (history as unknown[]) : [];
    } catch {
      return [];
    }
  }
}
