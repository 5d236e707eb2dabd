import { Redis } from './ioredis.js';
import { OpenCalls } from './open-calls.js';
import type { Payload, Peer } from './peer.js';
import { TickBatch } from './tick-batch.js';

const GROUP = 'workers';
const READ_COUNT = 1_024;
const BLOCK_MS = 2_000;
const REPLY_STREAM_CAP = 10_000;

interface Request {
  readonly id: string;
  readonly text: string;
}

interface Streams {
  readonly calls: string;
  readonly repliesOf: (pid: string) => string;
}

/**
 * A floor: request and reply over Streams with nothing but ioredis, and what the hardware gives when all is
 * batched. XADDs of a tick in one pipeline; the worker's one blocking XREADGROUP; the replies of a batch in one
 * XADD, with XACK and XDEL in the same pipeline; the caller's blocking XREAD. No deadline, no fencing, no
 * registry, nobody who notices a death.
 */
export const floorStreams: Peer = {
  async openWorker({ redisUrl, keyPrefix }) {
    const commands = new Redis(redisUrl);
    const reader = new Redis(redisUrl);
    const streams = streamsOf(keyPrefix);
    await commands.xgroup('CREATE', streams.calls, GROUP, '0', 'MKSTREAM');
    const loop = answerAll(commands, reader, streams);
    return async () => {
      reader.disconnect();
      commands.disconnect();
      await loop;
    };
  },

  async openCaller({ redisUrl, keyPrefix }) {
    const commands = new Redis(redisUrl);
    const reader = new Redis(redisUrl);
    const streams = streamsOf(keyPrefix);
    const calls = new OpenCalls();
    const pid = String(process.pid);
    const requests = new TickBatch<Request>((batch) => {
      const pipeline = commands.pipeline();
      for (const { id, text } of batch)
        pipeline.xadd(streams.calls, '*', 'i', id, 'r', pid, 'p', text);
      void pipeline.exec();
    });
    const loop = settleAll(reader, streams.repliesOf(pid), calls);
    await commands.ping();
    return {
      call: (payload) => calls.start((id) => requests.add({ id, text: JSON.stringify(payload) })),
      async close() {
        reader.disconnect();
        commands.disconnect();
        await loop;
      },
    };
  },
};

function streamsOf(keyPrefix: string): Streams {
  return { calls: `${keyPrefix}calls`, repliesOf: (pid) => `${keyPrefix}replies:${pid}` };
}

async function answerAll(commands: Redis, reader: Redis, streams: Streams): Promise<void> {
  for (;;) {
    const answer = await reader
      .xreadgroup(
        'GROUP',
        GROUP,
        'worker',
        'COUNT',
        READ_COUNT,
        'BLOCK',
        BLOCK_MS,
        'STREAMS',
        streams.calls,
        '>',
      )
      .catch(() => undefined);
    if (answer === undefined) return;
    const entries = answer?.[0]?.[1] ?? [];
    if (entries.length > 0) conclude(commands, streams, entries);
  }
}

/** One pipeline for a whole batch; the next read does not wait for it. */
function conclude(
  commands: Redis,
  streams: Streams,
  entries: readonly [id: string, fields: string[] | null][],
): void {
  const ids: string[] = [];
  const replies = new Map<string, string[]>();
  for (const [entryId, fields] of entries) {
    ids.push(entryId);
    const [, id = '', , pid = '', , text = ''] = fields ?? [];
    const payload = JSON.parse(text) as Payload;
    const batch = replies.get(pid) ?? [];
    batch.push(id, JSON.stringify(payload));
    replies.set(pid, batch);
  }
  const pipeline = commands.pipeline();
  for (const [pid, batch] of replies)
    pipeline.xadd(streams.repliesOf(pid), 'MAXLEN', '~', REPLY_STREAM_CAP, '*', ...batch);
  pipeline.xack(streams.calls, GROUP, ...ids);
  pipeline.xdel(streams.calls, ...ids);
  void pipeline.exec();
}

async function settleAll(reader: Redis, stream: string, calls: OpenCalls): Promise<void> {
  let last = '0';
  for (;;) {
    const answer = await reader
      .xread('COUNT', READ_COUNT, 'BLOCK', BLOCK_MS, 'STREAMS', stream, last)
      .catch(() => undefined);
    if (answer === undefined) return;
    for (const [entryId, fields] of answer?.[0]?.[1] ?? []) {
      last = entryId;
      for (let at = 0; at + 1 < fields.length; at += 2)
        calls.settle(fields[at] ?? '', fields[at + 1] ?? '');
    }
  }
}
