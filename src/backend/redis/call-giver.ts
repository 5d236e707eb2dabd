import { encodeCall } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type { Submission, Submitted, SubmitTerms } from '../call-streams.js';
import { idsFrom, isGiven } from './given-calls.js';
import type { RedisConnection } from './redis-connection.js';
import { callsParts, GROUP } from './redis-call-reader.js';
import { around } from './redis-worker-store.js';
import { runScript, scripts } from './scripts.js';

/** Functions of which it is known how their calls are added, at the most. */
const MAX_KNOWN = 10_000;

/** How calls of a function are added. */
export interface Way {
  /** Pools that are known to host it, by the heads of their keys. */
  readonly pools: readonly string[];
}

/** Its stream is read directly. */
export const DIRECT: Way = { pools: [] };
/** Who adds its calls has to look. */
const UNKNOWN: Way = { pools: [] };

/**
 * Gives calls to processes that wait for the bell of a pool; see give.lua.
 *
 * Which pools host a function is learned when its calls are added. It may be wrong by then without harm: a pool's name is
 * made of the functions that it hosts, so whoever offers to take its calls can take this one's; and when nobody does, the
 * script looks where the function is now, and says so. Of a function that was read directly, and now is in a pool, the
 * look after lone calls and the script that adds others say it.
 */
export class CallGiver {
  private readonly ways = new Map<string, Way>();
  /** The same pools are one object, by which calls are sorted. */
  private readonly pools = new Map<string, Way>();
  /** Whether this user may give; asked once a connection. */
  private mayGive = true;
  private readonly parts: readonly string[];

  constructor(
    private readonly commands: RedisConnection,
    keys: Keys,
    /** Is told of functions that are found to be in pools. */
    private readonly onPooled: (functionId: string) => void,
  ) {
    const [before, after] = callsParts(keys);
    const functionParts = [before, after.slice(0, -'calls'.length)];
    this.parts = [...around(keys.inbox('\0')), ...around(keys.given('\0')), ...functionParts];
    commands.onReady(() => {
      this.mayGive = true;
      this.forgetAll();
    });
  }

  wayOf(ref: FunctionRef): Way {
    return this.mayGive ? (this.ways.get(ref.id) ?? UNKNOWN) : DIRECT;
  }

  /** Which pools host a function, by the heads of their keys; none: it is read directly. */
  learn(functionId: string, pools: readonly string[]): void {
    if (this.ways.size >= MAX_KNOWN) this.forgetAll();
    this.ways.set(functionId, pools.length === 0 ? DIRECT : this.wayTo(pools));
    if (pools.length > 0) this.onPooled(functionId);
  }

  private wayTo(pools: readonly string[]): Way {
    const sorted = pools.toSorted();
    const name = sorted.join(' ');
    let way = this.pools.get(name);
    if (way === undefined) this.pools.set(name, (way = { pools: sorted }));
    return way;
  }

  /** Calls of functions that have this way in common. */
  async give(
    calls: readonly Submission[],
    { pools }: Way,
    { maxBacklog }: SubmitTerms,
    toSubmitted: (answer: string) => Submitted,
  ): Promise<Submitted[]> {
    const lines = calls.map((call) => `${call.ref.id}\t${encodeCall(call)}`);
    const args = [maxBacklog, ...this.parts, pools.length, GROUP, ...pools, ...lines];
    const script = runScript(this.commands.client, scripts.give, [], args);
    const [learned, ...answers] = (await script) as [
      string | [id: string, ...pools: string[]][],
      ...(string | number)[],
    ];
    if (typeof learned !== 'string') this.note(calls, learned);
    else if (learned === 'refused') this.mayGive = false;
    const results: Submitted[] = [];
    for (let at = 0; at + 1 < answers.length; at += 2) {
      const id = answers[at] as string;
      if (!id.startsWith('!') && isGiven(id))
        results.push(...idsFrom(id, answers[at + 1] as number));
      else results.push(toSubmitted(id));
    }
    return results;
  }

  private note(
    calls: readonly Submission[],
    learned: readonly [id: string, ...pools: string[]][],
  ): void {
    for (const [id, ...pools] of learned) {
      if (id !== '*') this.learn(id, pools);
      else for (const { ref } of calls) this.learn(ref.id, pools);
    }
  }

  private forgetAll(): void {
    this.ways.clear();
    this.pools.clear();
  }
}
