import { REPLY_FIELD, splitReplies } from '../../protocol/call.js';
import type { RawReply, ReplyReader } from '../call-streams.js';
import { REPLY_STREAM_TTL_MS } from '../limits.js';
import { namingBrokenKey } from './key-types.js';
import type { RedisConnection } from './redis-connection.js';

/** The group that makes the stream exist: workers write only to reply streams that do. */
const KEEPER = 'keeper';

type StreamAnswer = [key: string, entries: [id: string, fields: string[] | null][]][] | null;

/** `XREAD` on a connection of its own; see {@link ReplyReader}. */
export class RedisReplyReader implements ReplyReader {
  private lastId = '0-0';
  private existed = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly key: string,
  ) {}

  whenConnected(): Promise<void> {
    return this.connection.whenReady();
  }

  connections(): number {
    return this.connection.connections();
  }

  async ensure(): Promise<boolean> {
    const made = await this.make();
    const forgotten = made && this.existed;
    this.existed = true;
    // A new stream counts from its own beginning: an emptied Redis knows nothing of the ids read before.
    if (made) this.lastId = '0-0';
    return forgotten;
  }

  private async make(): Promise<boolean> {
    // In one write: who is killed, or loses its connection, between the two would leave a stream for ever.
    const made = this.connection.command('XGROUP CREATE', async (client) => {
      const both = client
        .pipeline()
        .xgroup('CREATE', this.key, KEEPER, '0', 'MKSTREAM')
        .pexpire(this.key, REPLY_STREAM_TTL_MS);
      const [creation, expiry] = (await both.exec()) ?? [];
      if (creation?.[0]?.message.startsWith('BUSYGROUP') === true) return false;
      const error = creation?.[0] ?? expiry?.[0];
      if (error) throw error;
      return true;
    });
    try {
      return await made;
    } catch (error) {
      throw await namingBrokenKey(this.connection, [this.key], error);
    }
  }

  async read(blockMs: number): Promise<RawReply[]> {
    let answer: StreamAnswer;
    try {
      answer = await this.connection.client.xread(
        'COUNT',
        1_000,
        'BLOCK',
        blockMs,
        'STREAMS',
        this.key,
        this.lastId,
      );
    } catch (error) {
      const translated = this.connection.translate('XREAD', error);
      throw await namingBrokenKey(this.connection, [this.key], translated);
    }
    if (answer === null) return [];
    const replies: RawReply[] = [];
    for (const [, entries] of answer) {
      for (const [entryId, fields] of entries) {
        this.lastId = entryId;
        for (let i = 0; fields !== null && i + 1 < fields.length; i += 2)
          if (fields[i] === REPLY_FIELD)
            for (const reply of splitReplies(fields[i + 1] ?? '')) replies.push(reply);
      }
    }
    return replies;
  }

  async trim(): Promise<void> {
    const [time = '0', seq = '0'] = this.lastId.split('-');
    await this.connection.command('XTRIM', (client) =>
      client.xtrim(this.key, 'MINID', `${time}-${Number(seq) + 1}`),
    );
  }

  reset(): void {
    this.connection.reset();
  }

  close(): Promise<void> {
    this.connection.close();
    return Promise.resolve();
  }
}
