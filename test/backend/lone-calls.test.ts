import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { PoolRead } from '../../src/backend/call-streams.js';
import { scripts } from '../../src/backend/redis/scripts.js';
import type { Member } from '../../src/conformance/member.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { Members } from '../harness/members.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

const POOL = 'pool-1';
const BLOCK_MS = 10_000;
const LOOK: PoolRead = { pools: [POOL], limit: 100, functions: 64, perFunction: 10, rooms: [] };
const ref = functionRef('f1', 'default');

let members: Members;
let admin: Members['admin'];
let keys: Members['keys'];
let log: CommandLog;
let proxy: TcpProxy;
let caller: Member;

beforeEach(async () => {
  members = new Members();
  ({ admin, keys } = members);
  log = await CommandLog.start(redisUrl());
  proxy = await TcpProxy.start(redisUrl());
  caller = await members.member('caller-1', proxy.url);
});
afterEach(async () => {
  await members.close();
  log.close();
  await proxy.close();
});

/** How often the caller did it to the function's calls. */
async function times(name: string, sha?: string): Promise<number> {
  const commands = await log.mentioning(keys.calls(ref));
  return commands.filter((one) => one.name === name && (sha === undefined || one.args[0] === sha))
    .length;
}

/**
 * Calls, and waits until the caller has looked what that function is like: every call that it added by itself was looked
 * at, so that no look comes before the next one.
 */
async function lookedAt(): Promise<void> {
  await caller.submit(ref, 'first');
  await eventually('it looked', async () => (await times('evalsha', scripts.confirm.sha)) > 0);
  await eventually('and knows', async () => {
    const before = await times('xadd');
    await caller.submit(ref, 'more');
    return (await times('xadd')) > before;
  });
  await eventually('it looked at the last one, too', async () => {
    const last = (await log.mentioning(keys.calls(ref))).at(-1);
    return last?.args[0] === scripts.confirm.sha;
  });
}

/** A worker that hears the function by a bell; it has taken what was there. */
async function pooledWorker(): Promise<Member> {
  const worker = await members.pooled(POOL, [ref]);
  await worker.reader.take(LOOK);
  await worker.reader.take(LOOK);
  return worker;
}

describe('a call by itself', () => {
  it('is added without a script once it is known that its function has no bell', async () => {
    await lookedAt();
    const scriptsBefore = await times('evalsha', scripts.submit.sha);
    const id = await caller.submit(ref, 'plain', { delivery: 'at-most-once' });
    const [[, fields] = []] = await admin.xrange(keys.calls(ref), id, id);
    expect(fields?.[1]).toMatch(/^1m 60000 \S* caller-1 plain\t/);
    expect(await times('evalsha', scripts.submit.sha)).toBe(scriptsBefore);
  });

  it('is rung for by a later look when a process hears its function by a bell meanwhile', async () => {
    await lookedAt();
    const worker = await pooledWorker();
    const plainBefore = await times('xadd');
    const bell = worker.reader.waitForBell([POOL], BLOCK_MS);
    await caller.submit(ref, 'silent');
    expect(await times('xadd')).toBe(plainBefore + 1);
    expect((await bell).rang).toBe(true);
    expect((await worker.reader.take(LOOK)).calls).toHaveLength(1);
    await eventually('the caller knows it, and adds calls by the script', async () => {
      const before = await times('xadd');
      await caller.submit(ref, 'told');
      return (await times('xadd')) === before;
    });
  });

  it('is rung for although the connection broke before that look', async () => {
    await lookedAt();
    const worker = await pooledWorker();
    const bell = worker.reader.waitForBell([POOL], BLOCK_MS);
    await caller.submit(ref, 'silent');
    proxy.refuse();
    await eventually('it is gone', () => !caller.backend.isConnected());
    proxy.accept();
    expect((await bell).rang).toBe(true);
  });

  it('is added by the script again after a reconnect, until that function was looked at', async () => {
    await lookedAt();
    proxy.refuse();
    await eventually('it is gone', () => !caller.backend.isConnected());
    proxy.accept();
    await eventually('it is back', () => caller.backend.isConnected());
    const plainBefore = await times('xadd');
    await caller.submit(ref, 'careful');
    expect(await times('xadd')).toBe(plainBefore);
  });

  it('is not looked at where the script that added it has seen a bell', async () => {
    await pooledWorker();
    await caller.submit(ref, 'c1');
    // Looks come in the order of the calls.
    const plain = functionRef('plain', 'default');
    await caller.submit(plain, 'c2');
    await eventually('the other is looked at', async () =>
      (await log.mentioning(keys.calls(plain))).some(
        ({ name, args }) => name === 'evalsha' && args[0] === scripts.confirm.sha,
      ),
    );
    expect(await times('evalsha', scripts.confirm.sha)).toBe(0);
  });

  it('stays within the backlog that is allowed', async () => {
    let [written, refused] = [0, 0];
    for (let n = 0; n < 200; n += 1) {
      const [result] = await caller.submitAll([caller.callOf(ref, `c${n}`)], 100);
      if (typeof result === 'string') written += 1;
      else refused += 1;
    }
    expect({ written, refused }).toEqual({ written: 100, refused: 100 });
  });
});
