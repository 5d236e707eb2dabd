import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import fc from 'fast-check';
import type { CallReader, Outcome, RawCall } from '../../src/backend/call-streams.js';
import { partsOf } from '../../src/protocol/call.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { onMemory, onRedis } from './hand-over-stores.js';

// Thousands of interleavings of scripts on a real Redis, on machines that do other things too.
jest.setTimeout(120_000);

const RUNS = 1_500;
const MAX_DELIVERIES = 2;
const SESSIONS = ['a', 'b', 'c'] as const;
type Session = (typeof SESSIONS)[number];

const session = fc.constantFrom(...SESSIONS);
const pick = fc.nat(30);

/** What can happen to the calls of one function. `pick` chooses among what there is, settled and lost ones included. */
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('submit' as const),
      once: fc.boolean(),
      key: fc.constantFrom(undefined, undefined, 'k1', 'k2'),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('read' as const), session }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('settle' as const, 'fail' as const, 'retry' as const, 'bury' as const),
      pick,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('promote' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose' as const), session }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('hand-back' as const), pick, started: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), pick }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('inherit' as const), session, to: session }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('destroy' as const), claims: session }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Where a call is. */
type Place =
  | { readonly at: 'waiting' }
  | { readonly at: 'held'; readonly by: Session }
  | { readonly at: 'aside' }
  /** Answered, given up or taken out: nobody has it any more. */
  | { readonly at: 'gone' };

interface ModelCall {
  readonly id: string;
  readonly once: boolean;
  readonly key: string | undefined;
  place: Place;
  attempt: number;
  losses: number;
  /** Each change of entry makes what was read before void. */
  life: number;
}

/** What a worker was given: the call, and its life then. */
interface Held {
  readonly raw: RawCall;
  readonly call: ModelCall;
  readonly life: number;
  readonly by: Session;
}

interface Shared {
  call: ModelCall | undefined;
  readonly sharers: Set<string>;
  done: boolean;
}

/** The simple model: a queue, owners, and who is to be answered what. */
class Model {
  readonly calls: ModelCall[] = [];
  queue: ModelCall[] = [];
  aside: ModelCall[] = [];
  dead = 0;
  /** Final answers, in their order: call and kind. */
  readonly answers: string[] = [];
  readonly keys = new Map<string, Shared>();

  owns({ call, life }: Held): boolean {
    return call.place.at === 'held' && call.life === life;
  }

  heldBy(session: Session): ModelCall[] {
    return this.calls.filter(({ place }) => place.at === 'held' && place.by === session);
  }

  get held(): ModelCall[] {
    return this.calls.filter(({ place }) => place.at === 'held');
  }

  requeue(call: ModelCall): void {
    call.place = { at: 'waiting' };
    call.life += 1;
    this.queue.push(call);
  }

  end(call: ModelCall, kind: string | undefined): void {
    call.place = { at: 'gone' };
    call.life += 1;
    if (kind === undefined) return;
    const shared = call.key === undefined ? undefined : this.keys.get(call.key);
    if (shared === undefined) {
      this.answers.push(`${call.id} ${kind}`);
      return;
    }
    for (const sharer of shared.sharers) this.answers.push(`${sharer} ${kind}`);
    shared.sharers.clear();
    shared.call = undefined;
    shared.done = kind === 'r';
    if (!shared.done) this.keys.delete(call.key as string);
  }

  lose(call: ModelCall): void {
    if (call.once) return this.end(call, 'WORKER_LOST');
    call.losses += 1;
    if (call.losses >= MAX_DELIVERIES) {
      this.dead += 1;
      return this.end(call, 'MAX_DELIVERIES');
    }
    call.attempt += 1;
    this.requeue(call);
  }
}

const ref = functionRef('work', 'default');

describe.each([onRedis(ref), onMemory(ref)])('the hand-over on $title', (store) => {
  const { backend } = store;
  let readers: Record<Session, CallReader>;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    backend.start();
    readers = {
      a: backend.calls.openReader('a'),
      b: backend.calls.openReader('b'),
      c: backend.calls.openReader('c'),
    };
    await Promise.all(SESSIONS.map((name) => readers[name].whenConnected()));
  });
  afterAll(() => store.close());

  class World {
    readonly model = new Model();
    readonly given: Held[] = [];
    /** Of every call, the entry id that its caller knows. */
    readonly known = new Map<string, string>();
    private readonly told: string[] = [];

    async start(): Promise<void> {
      await store.clear();
      await backend.calls.ensureGroups([ref], 'a');
    }

    async perform(step: Step): Promise<void> {
      switch (step.do) {
        case 'submit':
          return this.submit(step.once, step.key);
        case 'read':
          return this.read(step.session);
        case 'settle':
        case 'fail':
        case 'retry':
        case 'bury':
          return this.conclude(step.do, step.pick);
        case 'promote':
          return this.promote();
        case 'lose':
          return this.lose(step.session);
        case 'hand-back':
          return this.handBack(step.pick, step.started);
        case 'cancel':
          return this.cancel(step.pick);
        case 'inherit':
          return this.inherit(step.session, step.to);
        case 'destroy':
          return this.destroy(step.claims);
      }
    }

    private async submit(once: boolean, key: string | undefined): Promise<void> {
      const { model } = this;
      const id = `c${this.known.size}`;
      const [result] = await backend.calls.submit(
        [
          {
            ref,
            callId: id,
            replyTo: 'p',
            ttlMs: 60_000,
            sentAt: undefined,
            delivery: once ? 'at-most-once' : 'at-least-once',
            payload: '{"p":{},"i":null}',
            again: false,
            idempotencyKey: key,
          },
        ],
        { maxBacklog: 1_000 },
      );
      this.known.set(id, typeof result === 'string' ? result : '');
      const shared = key === undefined ? undefined : model.keys.get(key);
      if (shared?.done === true) {
        expect(result).toBe('answered');
        model.answers.push(`${id} r`);
        return;
      }
      if (shared?.call !== undefined) {
        shared.sharers.add(id);
        return;
      }
      const call: ModelCall = {
        id,
        once,
        key,
        place: { at: 'waiting' },
        attempt: 1,
        losses: 0,
        life: 0,
      };
      model.calls.push(call);
      model.queue.push(call);
      if (key !== undefined) model.keys.set(key, { call, sharers: new Set([id]), done: false });
    }

    private async read(session: Session): Promise<void> {
      const [raw] = await readers[session].read([ref], 1, 0);
      const call = this.model.queue.shift();
      expect(partsOf(raw?.fields ?? []).callId).toBe(call?.id ?? '');
      if (raw === undefined || call === undefined) return;
      expect(Number(field(raw, 'a') || '1')).toBe(call.attempt);
      call.place = { at: 'held', by: session };
      this.given.push({ raw, call, life: call.life, by: session });
    }

    private async conclude(
      kind: 'settle' | 'fail' | 'retry' | 'bury',
      pick: number,
    ): Promise<void> {
      const held = this.given[pick % Math.max(1, this.given.length)];
      if (held === undefined) return;
      const { model } = this;
      const owned = model.owns(held);
      const { raw, call } = held;
      const reply =
        kind === 'settle' ? '{"k":"r","d":1,"w":"w"}' : '{"k":"e","e":{"code":"FAILED"},"w":"w"}';
      const outcome: Outcome = {
        ref,
        entryId: raw.entryId,
        callId: call.id,
        replyTo: 'p',
        kind: kind === 'fail' ? 'settle' : kind,
        reply,
        ...(kind === 'retry' || kind === 'bury' ? { failure: '{}', delayMs: 0 } : {}),
        ...(call.key === undefined ? {} : { once: { key: call.key, keepMs: 60_000 } }),
      };
      expect(await backend.calls.conclude([outcome], held.by)).toEqual({
        lost: owned ? [] : [0],
        again: [],
        why: '',
      });
      if (!owned) return;
      if (kind === 'settle') model.end(call, 'r');
      else if (kind === 'fail') model.end(call, 'FAILED');
      else if (kind === 'bury') {
        model.dead += 1;
        model.end(call, 'FAILED');
      } else {
        call.place = { at: 'aside' };
        call.life += 1;
        call.attempt += 1;
        model.aside.push(call);
      }
    }

    private async promote(): Promise<void> {
      const { model } = this;
      // All are due. Those of one millisecond come back in the order of their ids, as the calls' texts do not.
      await new Promise((resolve) => setTimeout(resolve, 2));
      const back = model.aside.splice(0);
      expect(await backend.calls.promote(ref)).toBe(back.length);
      const order = (await store.look()).entries.map(({ callId }) => callId);
      back.sort((one, other) => order.indexOf(one.id) - order.indexOf(other.id));
      for (const call of back) model.requeue(call);
    }

    private async lose(session: Session): Promise<void> {
      await backend.calls.release(ref, session, { kind: 'lost', maxDeliveries: MAX_DELIVERIES });
      const lost = this.inOrder(this.model.heldBy(session));
      for (const call of lost) this.model.lose(call);
    }

    private async handBack(pick: number, started: boolean): Promise<void> {
      const held = this.given[pick % Math.max(1, this.given.length)];
      if (held === undefined) return;
      const owned = this.model.owns(held);
      const by = held.call.place.at === 'held' ? held.call.place.by : 'a';
      await backend.calls.release(ref, by, {
        kind: 'handed-back',
        entries: [{ entryId: held.raw.entryId, started }],
      });
      if (!owned) return;
      if (held.call.once && started) this.model.end(held.call, 'WORKER_LOST');
      else this.model.requeue(held.call);
    }

    private async cancel(pick: number): Promise<void> {
      const plain = this.model.calls.filter(({ key }) => key === undefined);
      const call = plain[pick % Math.max(1, plain.length)];
      if (call === undefined) return;
      await this.hear();
      const answer = await backend.calls.cancel(
        ref,
        this.known.get(call.id) ?? '',
        call.id,
        undefined,
      );
      const { at } = call.place;
      // A call that was put aside is known under its last entry id, and one that was promoted under the new one.
      expect(answer).toBe(at === 'gone' ? 'unknown' : at === 'held' ? 'running' : 'removed');
      if (answer !== 'removed') return;
      this.model.queue = this.model.queue.filter((one) => one !== call);
      this.model.aside = this.model.aside.filter((one) => one !== call);
      this.model.end(call, undefined);
    }

    private async inherit(from: Session, to: Session): Promise<void> {
      if (from === to) return;
      const raws = await backend.calls.inherit(ref, from, to);
      const calls = this.inOrder(this.model.heldBy(from));
      expect(raws.map((raw) => partsOf(raw?.fields ?? []).callId)).toEqual(
        calls.map(({ id }) => id),
      );
      for (const call of calls) call.place = { at: 'held', by: to };
    }

    /** The group is destroyed; a worker that still hosts the function claims what it has, the others are dead. */
    private async destroy(claims: Session): Promise<void> {
      const { model } = this;
      await store.destroyGroup(async () => {
        await backend.calls.ensureGroups([ref], claims);
      });
      const entryIds = this.given
        .filter(
          (held) =>
            model.owns(held) && held.call.place.at === 'held' && held.call.place.by === claims,
        )
        .map(({ raw }) => raw.entryId);
      await backend.calls.claim(ref, claims, entryIds);
      const orphans = this.inOrder([
        ...model.queue,
        ...model.held.filter(({ place }) => place.at === 'held' && place.by !== claims),
      ]);
      // The time to claim is over.
      await store.endTimeToClaim();
      expect(await backend.calls.adopt(ref)).toBe(orphans.length);
      model.queue = [];
      for (const call of orphans) {
        if (call.once) model.end(call, 'WORKER_LOST');
        else model.requeue(call);
      }
    }

    /** Calls in the order of their entries in the stream: that of their last move. */
    private inOrder(calls: readonly ModelCall[]): ModelCall[] {
      const position = (call: ModelCall): string => {
        const held = this.given.findLast((one) => one.call === call && one.life === call.life);
        return held?.raw.entryId ?? `9${String(this.model.queue.indexOf(call)).padStart(30, '0')}`;
      };
      return [...calls].sort((one, other) => compareIds(position(one), position(other)));
    }

    /** What the caller is told: new entry ids, and answers. */
    private async hear(): Promise<void> {
      for (const [id, text] of await store.hear()) {
        const reply = JSON.parse(text) as { k: string; d?: unknown; e?: { code: string } };
        if (reply.k === 'm') this.known.set(id, String(reply.d));
        else this.told.push(`${id} ${reply.e?.code ?? reply.k}`);
      }
    }

    async check(): Promise<void> {
      const { model } = this;
      await this.hear();
      expect([...this.told].sort()).toEqual([...model.answers].sort());
      const stored = await store.look();
      expect(stored.entries).toHaveLength(model.queue.length + model.held.length);
      expect(stored.aside).toBe(model.aside.length);
      expect(stored.dead).toBe(model.dead);
      expect([...stored.owners].sort()).toEqual(
        model.held.map(({ place }) => (place.at === 'held' ? place.by : '')).sort(),
      );
      for (const [key, { call }] of model.keys) {
        const entry = stored.entries.find(({ callId }) => callId === call?.id);
        // Who joins the call of a key, or leaves it, finds it there.
        if (entry !== undefined) expect(await store.sharedEntry(key)).toBe(entry.entryId);
      }
      // No call is answered twice: those who share one by a key are calls of their own.
      const answered = model.answers.map((answer) => answer.split(' ')[0]);
      expect(new Set(answered).size).toBe(answered.length);
    }
  }

  it(`of any interleaving of ${RUNS} ends as the model says`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 24 }), async (steps) => {
        const world = new World();
        await world.start();
        for (const one of steps) await world.perform(one);
        await world.check();
        // And then everything runs to its end: nothing is stuck, nobody waits for ever.
        for (const name of SESSIONS) await world.perform({ do: 'lose', session: name });
        await world.perform({ do: 'promote' });
        for (let at = 0; world.model.queue.length > 0; at += 1) {
          await world.perform({ do: 'read', session: 'a' });
          await world.perform({ do: 'settle', pick: world.given.length - 1 });
        }
        await world.check();
        expect(world.model.held).toEqual([]);
      }),
      { numRuns: RUNS, endOnFailure: false },
    );
  });
});

function field(raw: Pick<RawCall, 'fields'> | undefined, name: string): string {
  const fields = raw?.fields ?? [];
  for (let i = 0; i + 1 < fields.length; i += 2) if (fields[i] === name) return fields[i + 1] ?? '';
  return '';
}

function compareIds(one: string, other: string): number {
  const [time = '0', seq = '0'] = one.split('-');
  const [otherTime = '0', otherSeq = '0'] = other.split('-');
  return Number(BigInt(time) - BigInt(otherTime)) || Number(seq) - Number(otherSeq);
}
