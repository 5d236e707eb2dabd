/** What the demo tells its processes. */
export interface DemoEnvironment {
  readonly redisUrl: string;
  /** In front of every key: the Redis may be shared. */
  readonly keyPrefix: string;
  /** Where runs are noted. */
  readonly runsKey: string;
  readonly workerId: string;
  /** Of /health. */
  readonly port: number;
  /** Where HTML goes. */
  readonly folder: string;
}

/** As environment variables, for a child. */
export function toVariables(environment: DemoEnvironment): NodeJS.ProcessEnv {
  return { ...process.env, DEMO: JSON.stringify(environment) };
}

/** As the child reads it. */
export function demoEnvironment(): DemoEnvironment {
  const text = process.env['DEMO'];
  if (text === undefined) throw new Error('This process is started by examples/demo/main.ts.');
  return JSON.parse(text) as DemoEnvironment;
}
