import type { ChildProcess } from 'node:child_process';

export interface RedisBinary {
  /** Absolute path of redis-server. */
  readonly command: string;
  /** The environment to start it with: a cached copy needs its own libraries. */
  readonly env: NodeJS.ProcessEnv;
  /** For example `7.0.15`. */
  readonly version: string;
  readonly origin: 'path' | 'cache';
}

export interface StartRedisOptions {
  /** Default: a free one. */
  readonly port?: number | undefined;
  /** Further arguments of redis-server; they win over the defaults (no persistence). */
  readonly args?: readonly string[];
  /** Working folder, kept after stop(). Default: a temporary one, removed by stop(). */
  readonly dir?: string | undefined;
}

/** A Redis that somebody else may own: stop() ends only one that was started here. */
export interface ObtainedRedis {
  readonly url: string;
  /** The user's, or started here: with a binary of the PATH, or one fetched into the cache. */
  readonly origin: 'REDIS_URL' | 'path' | 'cache';
  stop(): Promise<void>;
}

/** A private server. It is killed when this process ends, in whatever way. */
export interface StartedRedis extends ObtainedRedis {
  readonly port: number;
  readonly dir: string;
  /** Of the present process; restart() gives a new one. */
  readonly pid: number | undefined;
  readonly process: ChildProcess | undefined;
  /** Resolves when the process is gone; at once for signals that do not end it (SIGSTOP, SIGCONT). */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Stops it if it runs and starts it on the same port with the same folder and arguments. */
  restart(): Promise<void>;
}

/**
 * A redis-server of version 6.2 or newer: from the PATH, else from the checkout's cache (or the folder that
 * REDIS_CACHE_DIR names), else fetched into it. Rejects with instructions when there is none to be had.
 */
export function resolveRedisServer(options?: { readonly cacheDir?: string }): Promise<RedisBinary>;

/** Starts a server on 127.0.0.1 and resolves when it answers. */
export function startRedis(options?: StartRedisOptions): Promise<StartedRedis>;

/** The Redis of REDIS_URL when that is set, else one of startRedis(). */
export function obtainRedis(options?: StartRedisOptions): Promise<ObtainedRedis>;
