import { Redis } from 'ioredis';
import { CommandLog } from './command-log.js';

/** Prefix of the recorded keys, whatever test they came from. */
export const RECORDED_PREFIX = 'p:';

interface Connection {
  user: string | undefined;
  /** The process behind it: the first that it names is itself. */
  process: string | undefined;
  readonly seen: Set<string>;
}

/**
 * What each Redis user asks for, the commands inside of its scripts included, as MONITOR tells it: all but
 * administrative ones. MONITOR knows addresses only: whose they are is looked up when they come up for the first time.
 */
export class AclUsage {
  private readonly connections = new Map<string, Connection>();
  private readonly commands: {
    readonly connection: Connection;
    readonly words: readonly string[];
  }[] = [];
  private readonly admin: Redis;
  private last: Connection | undefined;
  private lookups: Promise<void> = Promise.resolve();
  private log: CommandLog | undefined;

  private constructor(url: string) {
    this.admin = new Redis(url);
  }

  static async start(url: string): Promise<AclUsage> {
    const usage = new AclUsage(url);
    usage.log = await CommandLog.start(url, (source, words) => usage.note(source, words));
    return usage;
  }

  /** Whose connections there are now is known when it resolves: of one that is closed nobody can say any more. */
  async settle(): Promise<void> {
    await this.log?.clear();
    this.lookups = this.lookups.then(() => this.lookUp());
    await this.lookups;
  }

  /** One command of each kind, for each user. */
  async samples(): Promise<Map<string, string[][]>> {
    await this.log?.clear();
    await this.lookups;
    const samples = new Map<string, string[][]>();
    for (const { connection, words } of this.commands) {
      const { user } = connection;
      if (user !== undefined) samples.set(user, [...(samples.get(user) ?? []), [...words]]);
    }
    return samples;
  }

  close(): void {
    this.log?.close();
    this.admin.disconnect();
  }

  private note(source: string, words: readonly string[]): void {
    // Commands of a script follow the one that runs it.
    const connection = source === 'lua' ? this.last : this.connectionOf(source, words);
    this.last = connection;
    if (connection === undefined) return;
    const told = words.map((word) => onAnyHost(connection, recorded(word)));
    const shape = told.map((word) => (word.startsWith(RECORDED_PREFIX) ? shapeOf(word) : ''));
    const kind = [told[0]?.toLowerCase(), told[1]?.slice(0, 12), ...shape].join(' ');
    if (connection.seen.has(kind)) return;
    connection.seen.add(kind);
    this.commands.push({ connection, words: told });
  }

  /** An address is used again when its connection has ended: these two are the first words on a new one. */
  private connectionOf(address: string, words: readonly string[]): Connection {
    const isFirst = words[1] === 'setname' || (words[0] === 'info' && words.length === 1);
    const known = this.connections.get(address);
    if (known !== undefined && !isFirst) return known;
    const connection: Connection = { user: undefined, process: undefined, seen: new Set() };
    this.connections.set(address, connection);
    this.lookups = this.lookups.then(() => this.lookUp());
    return connection;
  }

  private async lookUp(): Promise<void> {
    for (const line of String(await this.admin.client('LIST')).split('\n')) {
      const [, address = '', user] = /\baddr=(\S+) .*\buser=(\S+)/.exec(line) ?? [];
      const connection = this.connections.get(address);
      if (connection !== undefined) connection.user ??= user;
    }
  }
}

/** All processes of a test are on one host: what is of another process could as well be elsewhere. */
function onAnyHost(connection: Connection, word: string): string {
  const process = /^p:nf:process:\{?([^}.:]+)/.exec(word)?.[1];
  if (process === undefined) return word;
  connection.process ??= process;
  return connection.process === process ? word : word.replace(process, 'elsewhere-1-aa');
}

function recorded(word: string): string {
  return word.replace(/^t-[0-9a-f]{10}:/, RECORDED_PREFIX);
}

/** A key or channel without what differs from process to process. */
function shapeOf(word: string): string {
  return word.replace(/\d+|[0-9a-f]{8,}/g, '#');
}
