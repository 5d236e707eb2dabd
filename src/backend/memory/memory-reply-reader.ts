import type { RawReply, ReplyReader } from '../call-streams.js';
import { Blocked } from './blocked.js';
import type { MemoryConnection } from './memory-connection.js';
import { MemoryReader } from './memory-reader.js';
import type { ReplyStream } from './reply-stream.js';

const REPLIES_PER_READ = 1_000;

/** A caller's read of its replies; see {@link ReplyReader}. */
export class MemoryReplyReader extends MemoryReader<RawReply[]> implements ReplyReader {
  /** The number of the next reply to read. */
  private next = 0;
  private existed = false;

  constructor(
    connection: MemoryConnection,
    private readonly processId: string,
    private readonly onClosed: (reader: MemoryReplyReader) => void,
  ) {
    super(connection, 'XREAD');
  }

  read(blockMs: number): Promise<RawReply[]> {
    if (this.isClosed) return Promise.reject(this.connection.closedError());
    const { server, space } = this.connection;
    const stream = space.repliesOf(this.processId);
    const read = stream === undefined ? [] : this.readFrom(stream);
    if (read.length > 0 || blockMs === 0) return server.answers.answer(read);
    const ready = (): void => blocked.end(stream === undefined ? [] : this.readFrom(stream));
    const blocked = new Blocked<RawReply[]>(server, blockMs, [], () => {
      this.blocked = undefined;
      stream?.waiting.delete(ready);
    });
    this.blocked = blocked;
    stream?.waiting.add(ready);
    return blocked.promise;
  }

  ensure(): Promise<boolean> {
    if (this.isClosed) return Promise.reject(this.connection.closedError());
    return this.connection.run((space) => {
      const made = space.makeReplies(this.processId) !== undefined;
      const forgotten = made && this.existed;
      this.existed = true;
      // A new stream counts from its own beginning.
      if (made) this.next = 0;
      return forgotten;
    });
  }

  trim(): Promise<void> {
    return this.connection.run((space) => space.repliesOf(this.processId)?.trim(this.next));
  }

  protected ended(): void {
    this.onClosed(this);
  }

  private readFrom(stream: ReplyStream): RawReply[] {
    const { replies, next } = stream.from(this.next, REPLIES_PER_READ);
    this.next = next;
    return replies;
  }
}
