/** What the demo tells one of its actors. */
export interface DemoEnvironment {
  readonly role: 'caller' | 'worker';
  /** The `connection` option. */
  readonly connection: string;
  /** In front of every key: the Redis may be shared. */
  readonly keyPrefix: string;
  /** Where runs are noted, in Redis. */
  readonly runsKey: string;
  readonly workerId: string;
  /** Of /health. */
  readonly port: number;
  /** Where HTML goes. */
  readonly folder: string;
  /** How long a worker that is told to go may take; the library's default unless it is given. */
  readonly drainTimeoutMs?: number | undefined;
}

/** As environment variables, for a process. */
export function toVariables(environment: DemoEnvironment): NodeJS.ProcessEnv {
  return { ...process.env, DEMO: JSON.stringify(environment) };
}

/** As the process reads it. */
export function demoEnvironment(): DemoEnvironment {
  const text = process.env['DEMO'];
  if (text === undefined) throw new Error('This process is started by examples/demo/main.ts.');
  return JSON.parse(text) as DemoEnvironment;
}
