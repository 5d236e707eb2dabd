import { CALL_VERSION, callFlags } from '../../protocol/call.js';
import type { Keys } from '../../protocol/keys.js';
import type { Submission, Submitted, SubmitTerms } from '../call-streams.js';
import type { RedisConnection } from './redis-connection.js';
import { around } from './redis-worker-store.js';
import { ScriptKeys } from './script-keys.js';
import { runScript, scripts } from './scripts.js';

const CALLS_PER_SCRIPT = 500;

/** Adds calls to their streams; those of one batch in one script, in their order. */
export class RedisSubmitter {
  private readonly replyParts: readonly [string, string];

  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
  ) {
    this.replyParts = around(keys.replies('\0'));
  }

  async submit(calls: readonly Submission[], terms: SubmitTerms): Promise<Submitted[]> {
    const shared = calls.some(({ call }) => call.idempotencyKey !== undefined);
    if (!shared && calls.length <= CALLS_PER_SCRIPT) return this.submitBatch(calls, terms);
    const results: Promise<Submitted[]>[] = [];
    // All are sent before the first is answered: their order in the streams is the order here.
    for (const { from, to, once } of runsOf(calls)) {
      const batch = calls.slice(from, to);
      results.push(
        once
          ? Promise.all(batch.map((submission) => this.submitOnce(submission, terms)))
          : this.submitBatch(batch, terms),
      );
    }
    return (await Promise.all(results)).flat();
  }

  private async submitBatch(
    calls: readonly Submission[],
    terms: SubmitTerms,
  ): Promise<Submitted[]> {
    const keys = new ScriptKeys();
    const args: (string | number)[] = [
      CALL_VERSION,
      calls[0]?.call.replyTo ?? '',
      terms.maxBacklog,
      terms.sentAt ?? '',
    ];
    for (const { ref, call } of calls) {
      args.push(
        keys.of(this.keys.calls(ref)),
        call.callId,
        call.ttlMs,
        call.payload,
        callFlags(call),
      );
    }
    try {
      const answer = await runScript(this.commands.client, scripts.submit, keys.all, args);
      return (answer as string[]).map((told) => this.toSubmitted(told));
    } catch (error) {
      throw this.commands.translate('submit', error);
    }
  }

  private async submitOnce({ ref, call }: Submission, terms: SubmitTerms): Promise<Submitted> {
    const name = call.idempotencyKey ?? '';
    try {
      const answer = await runScript(
        this.commands.client,
        scripts.submitOnce,
        [this.keys.calls(ref), this.keys.once(ref, name)],
        [
          CALL_VERSION,
          call.replyTo,
          terms.maxBacklog,
          call.callId,
          call.ttlMs,
          call.payload,
          callFlags(call),
          name,
          ...this.replyParts,
          terms.sentAt ?? '',
        ],
      );
      return this.toSubmitted(answer as string);
    } catch (error) {
      return this.commands.translate('submit', error);
    }
  }

  private toSubmitted(answer: string): Submitted {
    if (answer === '=') return 'answered';
    if (answer === '!late') return 'late';
    if (answer.startsWith('!full ')) return { backlog: Number(answer.slice('!full '.length)) };
    return answer.startsWith('!') ? this.commands.refusal('submit', answer.slice(1)) : answer;
  }
}

/** Runs of neighbours that are written in the same way, each short enough for one script. */
function runsOf(
  calls: readonly Submission[],
): { readonly from: number; readonly to: number; readonly once: boolean }[] {
  const runs: { from: number; to: number; once: boolean }[] = [];
  for (const [index, { call }] of calls.entries()) {
    const once = call.idempotencyKey !== undefined;
    const last = runs.at(-1);
    if (last !== undefined && last.once === once && last.to - last.from < CALLS_PER_SCRIPT)
      last.to = index + 1;
    else runs.push({ from: index, to: index + 1, once });
  }
  return runs;
}
