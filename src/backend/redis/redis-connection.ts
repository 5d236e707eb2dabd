import type { EventEmitter } from 'node:events';
import { Logger } from '@nestjs/common';
import { Redis, type RedisOptions } from 'ioredis';
import { systemClock, within, type Timer } from '../../common/clock.js';
import { createDeferred, type Deferred } from '../../common/deferred.js';
import {
  BackendRefusedError,
  BackendUnavailableError,
  ClosedError,
  isFunctionsError,
} from '../../common/errors.js';
import { isError } from '../../common/text.js';
import { callIsolated, type Dispose } from '../../common/typed-events.js';
import { withoutCommand } from './redis-error.js';

/** Client options with the default shape of replies, which everything here reads. */
type OwnOptions = Omit<RedisOptions, 'replyMapping'> & { replyMapping: 'legacy' };

/** What a user may give as `connection`: a URL, ioredis options, or an ioredis instance. */
export type RedisSource = string | RedisOptions | Redis;

/** How long a control command waits for a connection and for its answer, together at most twice this. */
export const COMMAND_TIMEOUT_MS = 3_000;

const DISCONNECT_TIMEOUT_MS = 200;
/** A connection to a read-only server is kept for this long before it is tried anew. */
const READONLY_PATIENCE_MS = 1_000;
/** A connection that is made, and answers nothing, is given up after this: the client itself would wait for ever. */
const HANDSHAKE_LIMIT_MS = 3_000;
const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 500;

/**
 * Options of the client that a user's own connection may carry and that would break what is promised here
 * (docs/adr/0003-nothing-waits-in-the-client.md); docs/options.md lists them.
 */
const NEUTRALISED = {
  // Reads block for seconds on purpose; other commands have limits of their own.
  commandTimeout: undefined,
  blockingTimeout: undefined,
  socketTimeout: undefined,
  // A command that is sent again inside the client runs twice.
  autoResendUnfulfilledCommands: false,
  reconnectOnError: null,
  // Collects commands of a tick, so that they leave in another order than they were given.
  enableAutoPipelining: false,
  // "Ready" means that Redis has loaded its data.
  enableReadyCheck: true,
  // Modes and shapes of answers that nothing here reads.
  monitor: false,
  readOnly: false,
  stringNumbers: false,
  scripts: undefined,
} satisfies RedisOptions;

/**
 * Reconnecting: at once, then doubling to 500 ms with jitter, for ever. The client's own default waits up to
 * 5 s, and promise 10 gives 2 s for everything.
 */
function retryDelay(attempt: number): number {
  const ceiling = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt - 1, 10));
  return Math.round(ceiling * (0.5 + Math.random() / 2));
}

/**
 * One connection to Redis with the behaviour that the rest of the backend relies on:
 *
 * - A command never waits in a queue of the client for a connection, and is never sent twice by it: it fails
 *   at once when the connection is down, or at the moment it breaks. What should be tried again is decided
 *   by who sent it (a call that timed out meanwhile must not be written a minute later).
 * - A connection whose other end is gone without a word (a router forgot it, a host vanished) is made anew once a
 *   command on it is not answered in time although Redis can be reached. That Redis itself stands still is no
 *   reason: what was sent will be answered, and would be sent twice.
 * - No subscription comes back by itself: who subscribed learns of the new connection and subscribes anew,
 *   so that "subscribed" is always an acknowledgement.
 * - It is ready only on the database that was asked for. The client goes on in database 0 when SELECT is
 *   refused, where another application's data may be; here that is a connection that failed, and is retried.
 * - It never gives up: a client that ended without having had a socket is connected again.
 */
export class RedisConnection {
  readonly client: Redis;
  private readonly logger = new Logger('REDIS');
  /** When it was connected last, on this host's clock. */
  readySince = 0;
  /** A command was not answered in time. */
  private silent = false;
  private connectionCount = 0;
  private lastError: Error | undefined;
  private waiting: Deferred<void> | undefined;
  private handshake: Timer | undefined;
  private closed = false;
  /** Whether the database was selected on the present connection. */
  private selected = false;
  /** Attempts that the client does not count as failed, since it was ready last. */
  private refusals = 0;
  private databaseReported = false;
  private retry: NodeJS.Timeout | undefined;
  private readonly readyListeners = new Set<() => unknown>();
  private readonly lostListeners = new Set<(reason: string) => void>();

  constructor(
    source: RedisSource,
    readonly role: string,
    readonly address: string,
    /** The session or process that it belongs to, when it is known. */
    owner = '',
    /** Whether Redis was reached on another connection since then. */
    private readonly wasReachedSince: (time: number) => boolean = () => false,
  ) {
    this.client = createClient(source, {
      ...NEUTRALISED,
      connectionName: connectionName(role, owner),
      lazyConnect: true,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      autoResubscribe: false,
      // How long a socket whose other end is gone may keep the process after its close.
      disconnectTimeout: DISCONNECT_TIMEOUT_MS,
      // A server that became a replica: its address may lead to the new primary by now.
      reconnectOnError: (error: Error) =>
        error.message.includes('READONLY') &&
        systemClock.now() - this.readySince > READONLY_PATIENCE_MS,
      retryStrategy: (attempt: number) =>
        this.closed ? null : retryDelay(Math.max(attempt, this.refusals)),
      // RESP2 reads streams faster, and is the same in both majors of the client.
      protocol: 2,
      replyMapping: 'legacy',
    });
    this.client.on('connect', () => this.watchHandshake());
    this.client.on('ready', () => void this.handleConnected());
    this.client.on('close', () => this.handleClose());
    this.client.on('error', (error: Error) => {
      this.lastError = withoutCommand(error);
    });
  }

  /** Starts to connect, without waiting. */
  open(): void {
    if (this.client.status === 'wait') this.connect();
  }

  private connect(): void {
    this.client.connect().catch(() => {
      // Whatever had a socket is retried by the client itself.
      if (this.closed || this.client.status !== 'end') return;
      this.refusals += 1;
      this.handleClose();
      this.retry = setTimeout(() => this.connect(), retryDelay(this.refusals));
    });
  }

  /** A connection that ended is "ready" to the client until it hears of its close; nothing can be sent on it. */
  isReady(): boolean {
    return this.selected && this.client.status === 'ready' && this.client.stream.writable;
  }

  /** How many times it was connected. */
  connections(): number {
    return this.connectionCount;
  }

  /** Resolves when connected; rejects when closed. */
  whenReady(): Promise<void> {
    if (this.closed) return Promise.reject(new ClosedError('The connection to Redis'));
    if (this.isReady()) return Promise.resolve();
    this.open();
    this.waiting ??= createDeferred();
    return this.waiting.promise;
  }

  onReady(listener: () => unknown): Dispose {
    this.readyListeners.add(listener);
    return () => this.readyListeners.delete(listener);
  }

  onLost(listener: (reason: string) => void): Dispose {
    this.lostListeners.add(listener);
    return () => this.lostListeners.delete(listener);
  }

  /**
   * Runs a control command: waits for the connection if it is down, and is bounded in time.
   *
   * @throws BackendUnavailableError, BackendRefusedError, ClosedError
   */
  async command<T>(operation: string, run: (client: Redis) => Promise<T>): Promise<T> {
    const unavailable = (): Error =>
      new BackendUnavailableError(operation, this.address, this.lastError);
    if (!this.isReady())
      await within(systemClock, COMMAND_TIMEOUT_MS, this.whenReady(), unavailable);
    const sentAt = systemClock.now();
    const answer = run(this.client);
    // However late it comes: the connection lives.
    const hear = (): void => void (this.silent = false);
    answer.then(hear, hear);
    try {
      return await within(systemClock, COMMAND_TIMEOUT_MS, answer, () => {
        this.silent = true;
        if (this.wasReachedSince(sentAt)) this.reset();
        return unavailable();
      });
    } catch (error) {
      throw this.translate(operation, error);
    }
  }

  /** Sends what `send` asks for with one write to the socket: a write costs more than most commands. */
  inOneWrite<T>(send: (client: Redis) => T): T {
    const { stream } = this.client;
    stream.cork();
    try {
      return send(this.client);
    } finally {
      stream.uncork();
    }
  }

  /** What the client says about a broken connection, or Redis answered, as the library's error: without the command. */
  translate(operation: string, error: unknown): Error {
    if (isFunctionsError(error)) return error;
    const bare = withoutCommand(error);
    if (isConnectionError(bare))
      return this.closed
        ? new ClosedError('The connection to Redis')
        : new BackendUnavailableError(operation, this.address, bare);
    if (bare.name !== 'ReplyError') return bare;
    // A transaction says that it was discarded; why, each of its commands says.
    const { previousErrors } = error as { previousErrors?: readonly Error[] };
    const why = previousErrors?.[0];
    return this.refusal(operation, (why === undefined ? bare : withoutCommand(why)).message);
  }

  /** What Redis answered with an error. */
  refusal(operation: string, reply: string): BackendRefusedError {
    return new BackendRefusedError(operation, this.address, reply);
  }

  /** Redis was reached on another connection: if this one is silent, it is not for want of Redis. */
  noteReached(): void {
    if (this.silent) this.reset();
  }

  /** Breaks the connection; the client makes a new one. */
  reset(): void {
    if (!this.closed && this.client.status === 'ready') this.client.disconnect(true);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.retry);
    this.handshake?.cancel();
    this.client.disconnect();
    const waiting = this.waiting;
    this.waiting = undefined;
    if (waiting !== undefined) {
      waiting.promise.catch(() => undefined);
      waiting.reject(new ClosedError('The connection to Redis'));
    }
    this.readyListeners.clear();
    this.lostListeners.clear();
  }

  private watchHandshake(): void {
    this.handshake?.cancel();
    this.handshake = systemClock.after(HANDSHAKE_LIMIT_MS, () => this.client.disconnect(true));
  }

  /** The client is ready; whether it is on the right database, it does not say. */
  private async handleConnected(): Promise<void> {
    const { stream } = this.client;
    const database = this.client.options.db ?? 0;
    if (database !== 0) {
      try {
        await this.client.select(database);
      } catch (error) {
        // A connection that broke meanwhile says nothing about the database: the next one comes here again.
        if (this.client.stream === stream && !isConnectionError(error))
          this.refuseDatabase(database, error);
        return;
      }
      if (this.client.stream !== stream || this.client.status !== 'ready') return;
    }
    this.handleReady();
  }

  private refuseDatabase(database: number, error: unknown): void {
    const reason = isError(error) ? error : new Error(String(error));
    this.lastError = reason;
    this.refusals += 1;
    // All connections of a process fail alike: one of them says so.
    if (!this.databaseReported && this.role === 'commands') {
      this.logger.error(
        `database ${database} of ${this.address} cannot be used (${reason.message}): nothing is read or written ` +
          'until it can. Correct the database number of the connection option, or of REDIS_URL, or raise ' +
          '"databases" in the configuration of the server (16 by default).',
      );
    }
    this.databaseReported = true;
    this.client.disconnect(true);
  }

  private handleReady(): void {
    this.selected = true;
    this.databaseReported = false;
    this.refusals = 0;
    this.connectionCount += 1;
    this.handshake?.cancel();
    this.readySince = systemClock.now();
    this.silent = false;
    this.lastError = undefined;
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting?.resolve();
    for (const listener of [...this.readyListeners]) callIsolated(listener, () => undefined);
  }

  private handleClose(): void {
    this.handshake?.cancel();
    this.selected = false;
    const reason = reasonOf(this.lastError) ?? 'the connection was closed';
    for (const listener of [...this.lostListeners])
      callIsolated(
        () => listener(reason),
        () => undefined,
      );
  }
}

/** Name of a connection in CLIENT LIST. */
export function connectionName(role: string, owner: string): string {
  return `nestjs-functions:${role}${owner === '' ? '' : `:${owner}`}`;
}

/** An address that has several, none of which answers, gives an error without a message. */
function reasonOf(error: (Error & { code?: unknown }) | undefined): string | undefined {
  if (error === undefined || error.message !== '') return error?.message;
  return typeof error.code === 'string' ? error.code : error.name;
}

function createClient(source: RedisSource, own: OwnOptions): Redis {
  const client =
    typeof source === 'string'
      ? new Redis(withoutParameters(source, own), own)
      : isRedisInstance(source)
        ? source.duplicate(own)
        : new Redis({ ...source, ...own });
  hearAllErrors(client);
  return client;
}

/**
 * The client listens to the first error of a socket only, and one over TLS may have a second (the other end's alert
 * after a certificate was refused): nobody would hear it, and Node would end the process.
 */
function hearAllErrors(client: Redis): void {
  const { connector } = client as unknown as {
    connector?: { connect: (...args: unknown[]) => Promise<EventEmitter> };
  };
  if (connector === undefined) return;
  const connect = connector.connect.bind(connector);
  connector.connect = async (...args) => {
    const stream = await connect(...args);
    stream.on('error', () => undefined);
    return stream;
  };
}

/** A URL without the parameters that are decided here: in the client they win over the options beside it. */
function withoutParameters(source: string, own: OwnOptions): string {
  const url = new URL(source);
  const decided = [...url.searchParams.keys()].filter((name) => Object.hasOwn(own, name));
  if (decided.length === 0) return source;
  for (const name of decided) url.searchParams.delete(name);
  return url.href;
}

/** Whether a value is an ioredis instance, of whichever copy of the package. */
export function isRedisInstance(value: unknown): value is Redis {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as { duplicate?: unknown }).duplicate === 'function'
  );
}

/** Errors by which the client says that there is, or was, no connection. */
function isConnectionError(error: unknown): boolean {
  if (!isError(error)) return false;
  if (error.name === 'MaxRetriesPerRequestError') return true;
  const code = (error as { code?: unknown }).code;
  if (typeof code === 'string' && /^(ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|ENOTFOUND)/.test(code))
    return true;
  return /Connection is closed|isn't writeable|Command aborted|Connection is in/i.test(
    error.message,
  );
}
