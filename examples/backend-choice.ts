import { parseArgs } from 'node:util';
import { obtainRedis, type ObtainedRedis } from '../tools/redis.mjs';

/** What an example runs on. */
export interface BackendChoice {
  readonly kind: 'redis' | 'memory';
  /** The `connection` option. */
  readonly connection: string;
  /** Which it is, and why that one: for the first line. */
  readonly what: string;
  /** Ends a Redis that was started for the example. */
  stop(): Promise<void>;
}

/**
 * `--backend redis` or `--backend memory`, as it was asked for; without it a Redis where there is one (REDIS_URL, the
 * PATH) or one can be fetched, and the embedded backend otherwise.
 *
 * @param name of the memory
 * @throws Error that names the cure: an unknown argument, a REDIS_URL where nothing answers, or no Redis to be had
 * though one was asked for
 */
export async function chooseBackend(
  name: string,
  args: readonly string[] = process.argv.slice(2),
): Promise<BackendChoice> {
  const asked = askedFor(args);
  const url = process.env['REDIS_URL'] ?? '';
  if (asked === 'memory') return memory(`memory://${name}`, 'asked for with --backend memory');
  if (asked === undefined && url.startsWith('memory://')) return memory(url, 'REDIS_URL names it');
  try {
    return redis(await obtainRedis());
  } catch (error) {
    // Who names a Redis means that one.
    if (asked === 'redis' || url !== '') throw new Error(withCure(error), { cause: error });
    return memory(`memory://${name}`, `no Redis was found, none could be fetched: ${why(error)}`);
  }
}

function askedFor(args: readonly string[]): 'redis' | 'memory' | undefined {
  const { values } = parseArgs({ args: [...args], options: { backend: { type: 'string' } } });
  const { backend } = values;
  if (backend === undefined || backend === 'redis' || backend === 'memory') return backend;
  throw new Error(`--backend ${backend}: there is --backend redis and --backend memory.`);
}

function memory(connection: string, reason: string): BackendChoice {
  const what = `the embedded backend ${connection} (${reason})`;
  return { kind: 'memory', connection, what, stop: () => Promise.resolve() };
}

const ORIGINS: Readonly<Record<ObtainedRedis['origin'], string>> = {
  REDIS_URL: 'named by REDIS_URL',
  path: 'started from the PATH',
  cache: 'started from a fetched copy',
};

function redis(found: ObtainedRedis): BackendChoice {
  const { host } = new URL(found.url);
  const what = `a Redis at ${host} (${ORIGINS[found.origin]})`;
  return { kind: 'redis', connection: found.url, what, stop: () => found.stop() };
}

function withCure(error: unknown): string {
  return `${error instanceof Error ? error.message : String(error)}\nOr do without one: --backend memory`;
}

/** The last line of what went wrong beneath. */
function why(error: unknown): string {
  const { cause = error } = Object(error) as { cause?: unknown };
  const { stderr, message } = Object(cause) as { stderr?: string; message?: string };
  const lines = (stderr || message || String(cause)).trim().split('\n');
  return lines.at(-1) ?? '';
}
