import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { ReplyReader } from '../../src/backend/call-streams.js';
import { redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { Members } from '../harness/members.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

describe('the stream of replies', () => {
  let members: Members;
  let proxy: TcpProxy;
  let replies: ReplyReader;

  beforeEach(async () => {
    members = new Members();
    proxy = await TcpProxy.start(redisUrl());
    const caller = await members.member('caller-1', proxy.url);
    replies = caller.backend.calls.openReplies('caller-1');
    await replies.whenConnected();
  });
  afterEach(async () => {
    await members.close();
    await proxy.close();
  });

  const leftMs = (): Promise<number> => members.admin.pttl(members.keys.replies('caller-1'));

  it('ends with its caller, also when that dies before it knows that the stream was made', async () => {
    proxy.holdAnswers();
    replies.ensure().catch(() => undefined);
    await eventually('it is there, and not for ever', async () => (await leftMs()) > 0);
  });

  it('is found to be there, or made anew', async () => {
    expect(await replies.ensure()).toBe(false);
    await members.admin.persist(members.keys.replies('caller-1'));
    expect(await replies.ensure()).toBe(false);
    expect(await leftMs()).toBeGreaterThan(0);
    await members.admin.del(members.keys.replies('caller-1'));
    expect(await replies.ensure()).toBe(true);
  });
});
