import { afterEach, describe, expect, it } from '@jest/globals';
import { MemoryBackend } from '../../src/backend/memory/memory-backend.js';
import { partsOf } from '../../src/protocol/call.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { TestClock } from '../../src/testing/test-clock.js';

const ref = functionRef('work', 'default');
const clock = new TestClock('frozen');
const open = new Set<MemoryBackend>();

function backend(name = 'unit'): MemoryBackend {
  const made = new MemoryBackend(name, new Keys(''), clock);
  made.start();
  open.add(made);
  return made;
}

afterEach(async () => {
  for (const one of open) await one.close();
  open.clear();
  if (clock.pending > 0) throw new Error('a timer is left behind');
});

const call = (callId: string, idempotencyKey?: string) => ({
  ref,
  callId,
  replyTo: 'p',
  ttlMs: 60_000,
  sentAt: undefined,
  delivery: 'at-least-once' as const,
  payload: '{"p":{},"i":null}',
  again: false,
  idempotencyKey,
});
const TERMS = { maxBacklog: 1_000_000 };

describe('leases', () => {
  it('run out while their process says nothing, and others do', async () => {
    const { workers, fleet } = backend();
    await workers.join('a', 300, false);
    await workers.join('b', 300, false);
    await fleet.elect('b', { supervisorMs: 10_000, deputyMs: 1_000 });
    for (let passed = 0; passed < 500; passed += 100) {
      clock.tick(100);
      await workers.heartbeat({ sessionId: 'b', epoch: 1 }, 'pb', 300);
    }
    expect((await fleet.look('b', 10_000, true, true))?.lapsed).toEqual(['a']);
  });

  it('stand still while the whole process does', async () => {
    const { workers, fleet } = backend();
    await workers.join('a', 300, false);
    await workers.join('b', 300, false);
    await fleet.elect('b', { supervisorMs: 1_000, deputyMs: 1_000 });
    clock.stall(60_000);
    expect((await fleet.look('b', 1_000, true, true))?.lapsed).toEqual([]);
  });
});

describe('a read that waits', () => {
  it('is served in the step that adds a call, without a timer', async () => {
    const { calls } = backend();
    await calls.ensureGroups([ref], 'a');
    const reader = calls.openReader('a');
    const read = reader.read([ref], 10, 1_000_000);
    await calls.submit([call('c1')], TERMS);
    expect((await read).map(({ fields }) => partsOf(fields).callId)).toEqual(['c1']);
  });

  it('ends without calls when its time is up, and leaves no timer', async () => {
    const { calls } = backend();
    await calls.ensureGroups([ref], 'a');
    const read = calls.openReader('a').read([ref], 10, 50);
    clock.tick(50);
    expect(await read).toEqual([]);
    expect(clock.pending).toBe(0);
  });
});

describe('what is kept', () => {
  it('of results that nobody asks for is bounded by their time', async () => {
    const { calls, server } = backend();
    await calls.ensureGroups([ref], 'a');
    const reader = calls.openReader('a');
    for (let n = 0; n < 3_000; n += 1) {
      await calls.submit([call(`c${n}`, `k${n}`)], TERMS);
      const [raw] = await reader.read([ref], 1, 0);
      const outcome = { ref, entryId: raw?.entryId ?? '', callId: `c${n}`, replyTo: '' };
      const once = { key: `k${n}`, keepMs: 1_000 };
      await calls.conclude([{ ...outcome, kind: 'settle', reply: '{"k":"r","d":1}', once }], 'a');
      clock.tick(10);
    }
    // A hundred live at any time.
    expect(server.space('').shared.size).toBeLessThan(500);
    await reader.close();
  });
});

describe('a server', () => {
  it('is one for a name as long as somebody uses it', async () => {
    const one = backend('shared');
    const other = backend('shared');
    await one.workers.putDefinition(ref, '{}');
    expect(await other.workers.functions('default')).toEqual([ref]);
    await one.close();
    expect(await other.workers.functions('default')).toEqual([ref]);
    await other.close();
    expect(await backend('shared').workers.functions('default')).toEqual([]);
  });

  it('answers nothing to a backend that is closed', async () => {
    const one = backend();
    const reader = one.calls.openReader('a');
    await one.close();
    for (const asked of [one.ping(), one.calls.backlog(ref), reader.read([ref], 1, 0)])
      await expect(asked).rejects.toMatchObject({ code: 'CLOSED' });
    expect(one.isConnected()).toBe(false);
  });
});
