import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';

/** A command as Redis executed it: name in lower case, and its arguments. */
export interface LoggedCommand {
  readonly name: string;
  readonly args: readonly string[];
}

/**
 * What Redis is asked to do, as MONITOR tells it; commands inside scripts are left out. On a socket of its own: on a busy server the client's own
 * MONITOR takes the first lines for answers.
 */
export class CommandLog {
  private readonly commands: LoggedCommand[] = [];
  private readonly bare: Redis;
  private readonly marks = new Map<string, () => void>();
  private onOpen: () => void = () => undefined;

  private constructor(
    url: string,
    private readonly socket: Socket,
    private readonly observe: (source: string, words: readonly string[]) => void,
  ) {
    this.bare = new Redis(url);
  }

  /** @param observe is told everything at once: the client's address, or `lua`, and the words of the command */
  static async start(
    url: string,
    observe: (source: string, words: readonly string[]) => void = () => undefined,
  ): Promise<CommandLog> {
    const { hostname, port, username, password } = new URL(url);
    const socket = connect(Number(port === '' ? 6379 : port), hostname);
    const log = new CommandLog(url, socket, observe);
    socket.on('error', () => undefined);
    createInterface({ input: socket }).on('line', (line) => log.note(line));
    await new Promise<void>((resolve, reject) => {
      const monitor = (): void => {
        log.onOpen = resolve;
        socket.write('MONITOR\r\n');
      };
      socket.once('error', reject);
      if (password === '') return monitor();
      log.onOpen = monitor;
      const user = username === '' ? 'default' : decodeURIComponent(username);
      socket.write(`AUTH ${user} ${decodeURIComponent(password)}\r\n`);
    });
    return log;
  }

  /** Everything executed until now that has an argument in which `text` occurs. */
  async mentioning(text: string): Promise<LoggedCommand[]> {
    await this.catchUp();
    return this.commands.filter(({ args }) => args.some((arg) => arg.includes(text)));
  }

  /** Forgets what was executed until now. */
  async clear(): Promise<void> {
    await this.catchUp();
    this.commands.length = 0;
  }

  close(): void {
    this.socket.destroy();
    this.bare.disconnect();
  }

  private note(line: string): void {
    if (line === '+OK') return this.onOpen();
    const parts = /^\+[\d.]+ \[\d+ (\S+)\] (.*)$/.exec(line);
    if (parts === null) return;
    const words = [...(parts[2] ?? '').matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, word]) =>
      unescape(word ?? ''),
    );
    const [name = '', ...args] = words;
    const mark = this.marks.get(args[0] ?? '');
    if (mark !== undefined) return mark();
    this.observe(parts[1] ?? '', words);
    if (parts[1] !== 'lua') this.commands.push({ name: name.toLowerCase(), args });
  }

  /** MONITOR keeps the order: once it tells our own mark, it has told everything before. */
  private async catchUp(): Promise<void> {
    const mark = randomBytes(8).toString('hex');
    await new Promise<void>((resolve, reject) => {
      this.marks.set(mark, resolve);
      this.bare.echo(mark).catch(reject);
    });
    this.marks.delete(mark);
  }
}

function unescape(word: string): string {
  return word.replace(/\\(["\\])/g, '$1');
}
