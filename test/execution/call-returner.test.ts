import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { systemClock } from '../../src/common/clock.js';
import type { Member } from '../../src/conformance/member.js';
import { Scene } from '../../src/conformance/scene.js';
import { CallReturner } from '../../src/execution/worker/call-returner.js';
import { HeldCalls } from '../../src/execution/worker/held-calls.js';
import { functionRef, type FunctionRef } from '../../src/protocol/function-ref.js';
import { onRedis, type OwnBackend } from '../conformance/backends.js';
import { eventually } from '../harness/eventually.js';

const REFS = ['one', 'two', 'three'].map((name) => functionRef(name, 'default'));

/** What a process does with calls that it was given and is not to run. */
describe('calls that are handed back', () => {
  let backend: OwnBackend;
  let scene: Scene;
  let worker: Member;
  let stopping: boolean;

  beforeAll(() => void Logger.overrideLogger(false));
  afterAll(() => void Logger.overrideLogger(true));

  beforeEach(async () => {
    backend = onRedis();
    scene = new Scene(backend);
    worker = await worksOn(REFS);
    stopping = false;
  });
  afterEach(async () => {
    await scene.close();
    await backend.close();
  });

  async function worksOn(refs: readonly FunctionRef[]): Promise<Member> {
    return (await (await scene.member()).join()).reads(...refs);
  }

  function returnerOf(held = new HeldCalls()): CallReturner {
    const { backend: own, sessionId } = worker;
    return new CallReturner(
      own,
      systemClock,
      held,
      () => sessionId,
      () => stopping,
    );
  }

  async function givenCalls() {
    for (const ref of REFS) await worker.submit(ref, `of ${ref.functionName}`);
    return worker.reader.read(REFS, 1, 0);
  }

  it('go back to every function that they are of, and are held no more', async () => {
    const given = await givenCalls();
    expect(given).toHaveLength(REFS.length);
    const held = new HeldCalls();
    for (const call of given) held.add(call);
    const returner = returnerOf(held);
    await returner.handBackAll(given);
    const other = await worksOn(REFS);
    const again = await other.reader.read(REFS, 10, 0);
    expect(again.map(({ ref }) => ref.functionName).sort()).toEqual(['one', 'three', 'two']);
    expect(REFS.flatMap((ref) => held.of(ref))).toEqual([]);
    expect(returner.leftNothing).toBe(true);
  });

  it('and cannot be when the process stops are left to the supervisor, and that is known', async () => {
    const given = await givenCalls();
    const returner = returnerOf();
    stopping = true;
    await worker.backend.close();
    await eventually('it is away', () => !worker.backend.isConnected());
    await returner.handBackAll(given);
    expect(returner.leftNothing).toBe(false);
  });
});
