import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import {
  IsBoolean,
  IsIn,
  IsInt,
  IsString,
  Max,
  MaxLength,
  Min,
  ValidateBy,
  validateSync,
  type ValidationError,
} from 'class-validator';
import { memoryName } from './backend/create-backend.js';
import {
  CIRCUIT_OPTION,
  circuitViolations,
  resolveCircuit,
  type CircuitOptions,
} from './circuit/circuit-options.js';
import { InvalidOptionsError, type OptionViolation } from './common/errors.js';
import type { HealthSettings, MetricsSettings, Settings } from './common/settings.js';
import { redactUrl, show } from './common/text.js';
import { assertName, MAX_NAME_LENGTH } from './protocol/function-ref.js';
import { isRecord } from './protocol/json.js';

/** A remote function that this process cannot do without. */
export interface RequiredFunction {
  readonly functionName: string;
  /** Default: the module's `workflowId`. */
  readonly workflowId?: string;
}

/** The ready-made health controller. */
export interface HealthOptions {
  /** Default `/health`. */
  readonly path?: string;
  /** Functions that need a healthy worker for this process to be ready. */
  readonly required?: readonly RequiredFunction[];
}

/** The ready-made endpoint for Prometheus. */
export interface MetricsOptions {
  /** Default `/metrics`; a `/` before it may be left out, as in a controller of Nest. */
  readonly path?: string;
}

/** A name as {@link assertName} wants it: class-validator counts characters in another way. */
const IsName = (): PropertyDecorator =>
  ValidateBy({ name: 'isName', validator: { validate: isName } });

const MAX_MS = 2_147_483_647;
const HOUR_MS = 3_600_000;

/** The options of `FunctionsModule.forRoot()`; each has a default, listed in docs/options.md. */
export class FunctionsOptions {
  /**
   * Redis: a `redis://` or `rediss://` URL, ioredis options, or an ioredis instance, which is duplicated and
   * left alone. Or `memory://` or `memory://name`: no Redis, everything stays in this process, and all its
   * applications that give the same name share it. Or a function that makes a backend of one's own,
   * `(keys, clock) => Backend`. Default: the environment's `REDIS_URL`, then
   * `redis://127.0.0.1:6379`.
   */
  readonly connection?: unknown;

  /** Stands in front of every key and channel; what separates tenants of one Redis. Default `''`. */
  @IsString()
  @MaxLength(128)
  readonly keyPrefix?: string;

  /** Namespace of functions that do not name one. Default `default`. */
  @IsName()
  readonly workflowId?: string;

  /** Name of this process as a worker. Default: host, process id and a random part. */
  @IsName()
  readonly workerId?: string;

  /** `false`: this process only calls, and hosts nothing. Default `true`. */
  @IsBoolean()
  readonly worker?: boolean;

  /** `false`: this process takes no part in finding the dead; others have to. Default `true`. */
  @IsBoolean()
  readonly supervise?: boolean;

  /** Calls that this process runs at once. Default 100. */
  @IsInt()
  @Min(1)
  @Max(100_000)
  readonly concurrency?: number;

  /** How long a call waits for a worker. Default 10 000. */
  @IsInt()
  @Min(0)
  @Max(MAX_MS)
  readonly readinessTimeoutMs?: number;

  /** How long a call may take from submission to answer. Default 300 000. */
  @IsInt()
  @Min(1)
  @Max(MAX_MS)
  readonly executionTimeoutMs?: number;

  /** A process that says nothing for this long is dead. Default 5 000. */
  @IsInt()
  @Min(300)
  @Max(HOUR_MS)
  readonly leaseMs?: number;

  /** How long running calls get to finish at shutdown. Default 10 000. */
  @IsInt()
  @Min(0)
  @Max(HOUR_MS)
  readonly drainTimeoutMs?: number;

  /** How often the registry is asked while pub/sub is unavailable, and by the plain registry. Default 500. */
  @IsInt()
  @Min(10)
  @Max(HOUR_MS)
  readonly pollIntervalMs?: number;

  /** How often a call may lose its worker before it is given up. Default 3. */
  @IsInt()
  @Min(1)
  @Max(1_000)
  readonly maxDeliveries?: number;

  /** Largest payload and result, as JSON. Default 1 048 576. */
  @IsInt()
  @Min(64)
  @Max(512 * 1024 * 1024)
  readonly maxPayloadBytes?: number;

  /** How many calls of one function may wait and run at once; more are refused. Default 100 000. */
  @IsInt()
  @Min(1)
  @Max(100_000_000)
  readonly maxBacklog?: number;

  /** How long the result of a call with an `idempotencyKey` answers further calls. Default 600 000. */
  @IsInt()
  @Min(1_000)
  @Max(30 * 24 * HOUR_MS)
  readonly idempotencyTtlMs?: number;

  /** Whether a handler's stack travels to its caller. Default `false`. */
  @IsBoolean()
  readonly exposeStacks?: boolean;

  /**
   * What this process does when it is told to restart its workers of a workflow. `reload`: drain them, run the
   * `restarting` handlers, and register them anew. `exit`: send itself SIGTERM, for an orchestrator that starts another.
   * Default `reload`.
   */
  @IsIn(['reload', 'exit'])
  readonly restart?: 'reload' | 'exit';

  /** Whether calls are traced with OpenTelemetry. Default `false`. */
  @IsBoolean()
  readonly tracing?: boolean;

  /** `true`, or its path and required functions: the health controller. Default off. */
  readonly health?: boolean | HealthOptions;

  /** `true`, or its path: measures always, and serves that to Prometheus. Default off. */
  readonly metrics?: boolean | MetricsOptions;
  /** `true`, or when they open: circuits that all callers share (docs/circuit-breakers.md). Default off. */
  readonly circuit?: boolean | CircuitOptions;
}

/** Defaults of everything that does not depend on the process. */
export const DEFAULTS = Object.freeze({
  keyPrefix: '',
  workflowId: 'default',
  worker: true,
  supervise: true,
  concurrency: 100,
  readinessTimeoutMs: 10_000,
  executionTimeoutMs: 300_000,
  leaseMs: 5_000,
  drainTimeoutMs: 10_000,
  pollIntervalMs: 500,
  maxDeliveries: 3,
  maxPayloadBytes: 1_048_576,
  maxBacklog: 100_000,
  idempotencyTtlMs: 600_000,
  exposeStacks: false,
  restart: 'reload',
  tracing: false,
});

/** What is allowed, per option; also the options that exist. */
export const ALLOWED: Readonly<Record<keyof FunctionsOptions, string>> = Object.freeze({
  connection:
    'a redis:// or rediss:// URL, memory:// or memory://name, ioredis options, an ioredis instance, or a function that makes a backend (a Cluster is not supported yet)',
  keyPrefix: 'a string of at most 128 characters',
  workflowId: `a name of 1 to ${MAX_NAME_LENGTH} characters`,
  workerId: `a name of 1 to ${MAX_NAME_LENGTH} characters`,
  worker: 'true or false',
  supervise: 'true or false',
  concurrency: 'a whole number from 1 to 100000',
  readinessTimeoutMs: `whole milliseconds from 0 to ${MAX_MS}`,
  executionTimeoutMs: `whole milliseconds from 1 to ${MAX_MS}`,
  leaseMs: `whole milliseconds from 300 to ${HOUR_MS}`,
  drainTimeoutMs: `whole milliseconds from 0 to ${HOUR_MS}`,
  pollIntervalMs: `whole milliseconds from 10 to ${HOUR_MS}`,
  maxDeliveries: 'a whole number from 1 to 1000',
  maxPayloadBytes: `whole bytes from 64 to ${512 * 1024 * 1024}`,
  maxBacklog: 'a whole number from 1 to 100000000',
  idempotencyTtlMs: `whole milliseconds from 1000 to ${30 * 24 * HOUR_MS}`,
  exposeStacks: 'true or false',
  restart: "'reload' or 'exit'",
  tracing: 'true or false',
  health: "true, false, or { path: '/health', required: [{ functionName, workflowId }] }",
  metrics: "true, false, or { path: '/metrics' }",
  circuit: CIRCUIT_OPTION,
});

/** The settings of a module: a `workerId` only where one was given. */
export type ModuleSettings = Omit<Settings, 'workerId'> & Partial<Pick<Settings, 'workerId'>>;

/** Options checked and completed. */
export interface ResolvedOptions {
  readonly connection: unknown;
  readonly settings: ModuleSettings;
}

/** The settings of an application of the module. Each is another worker, also where one module makes several. */
export function applicationSettings(settings: ModuleSettings): Settings {
  return Object.freeze({ workerId: createWorkerId(), ...settings });
}

/**
 * Checks the options and fills in what is missing; an explicit `undefined` is as good as nothing.
 *
 * @throws InvalidOptionsError with every violation: path, value, what is allowed
 */
export function resolveOptions(
  given: unknown = {},
  env: NodeJS.ProcessEnv = process.env,
): ResolvedOptions {
  if (!isRecord(given)) {
    throw new InvalidOptionsError([
      { path: 'options', value: show(given), allowed: 'an object, or nothing' },
    ]);
  }
  const defined = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  );
  const options = Object.assign(new FunctionsOptions(), defined);
  const connection =
    options.connection === undefined
      ? env['REDIS_URL'] || 'redis://127.0.0.1:6379'
      : options.connection;
  const violations = [
    ...unknownOptions(defined),
    ...validateSync(options, { skipUndefinedProperties: true }).map(toViolation),
    ...connectionViolations(
      connection,
      options.connection === undefined ? 'REDIS_URL' : 'connection',
    ),
    ...healthViolations(options.health),
    ...metricsViolations(options.metrics),
    ...circuitViolations(options.circuit),
  ];
  if (violations.length > 0) throw new InvalidOptionsError(violations);
  const {
    health: _health,
    metrics: _metrics,
    connection: _connection,
    circuit: _circuit,
    ...plain
  } = defined;
  const workflowId = options.workflowId ?? DEFAULTS.workflowId;
  const settings: ModuleSettings = {
    ...DEFAULTS,
    ...(plain as Partial<typeof DEFAULTS>),
    health: resolveHealth(options.health, workflowId),
    circuit: resolveCircuit(options.circuit, workflowId),
    metrics: resolveMetrics(options.metrics),
  };
  return { connection, settings: Object.freeze(settings) };
}

/** The name of a process that was given none. */
function createWorkerId(): string {
  return `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
}

/** The health option, resolved; `undefined` when it is off. */
export function resolveHealth(
  health: boolean | HealthOptions | undefined,
  workflowId: string,
): HealthSettings | undefined {
  if (health === undefined || health === false) return undefined;
  const { path = '/health', required = [] } = health === true ? {} : health;
  return {
    path,
    required: required.map((fn) => ({
      functionName: fn.functionName,
      workflowId: fn.workflowId ?? workflowId,
    })),
  };
}

/**
 * Refuses a health option that cannot be used; for `forRootAsync`, which needs its path before the rest.
 *
 * @throws InvalidOptionsError
 */
export function assertHealth(health: unknown): void {
  const violations = healthViolations(health);
  if (violations.length > 0) throw new InvalidOptionsError(violations);
}

/** The metrics option, resolved; `undefined` when it is off. */
export function resolveMetrics(
  metrics: boolean | MetricsOptions | undefined,
): MetricsSettings | undefined {
  if (metrics === undefined || metrics === false) return undefined;
  const { path = '/metrics' } = metrics === true ? {} : metrics;
  return { path };
}

/**
 * As {@link assertHealth}.
 *
 * @throws InvalidOptionsError
 */
export function assertMetrics(metrics: unknown): void {
  const violations = metricsViolations(metrics);
  if (violations.length > 0) throw new InvalidOptionsError(violations);
}

function unknownOptions(given: object): OptionViolation[] {
  return Object.keys(given)
    .filter((name) => !Object.hasOwn(ALLOWED, name))
    .map((name) => ({
      path: name,
      value: 'an option that does not exist',
      allowed: `one of ${Object.keys(ALLOWED).join(', ')}`,
    }));
}

function toViolation(error: ValidationError): OptionViolation {
  return {
    path: error.property,
    value: show(error.value),
    allowed: ALLOWED[error.property as keyof FunctionsOptions],
  };
}

function connectionViolations(connection: unknown, path: string): OptionViolation[] {
  const refuse = (value: string): OptionViolation[] => [
    { path, value, allowed: ALLOWED.connection },
  ];
  if (typeof connection === 'string') {
    if (memoryName(connection) !== undefined) return [];
    if (!/^rediss?:\/\/./.test(connection) || !URL.canParse(connection))
      return refuse(show(redactUrl(connection)));
    return urlViolations(new URL(connection), path);
  }
  if (typeof connection === 'function') return [];
  if (!isRecord(connection)) return refuse(show(connection));
  if (connection['isCluster'] === true) return refuse('a Cluster');
  const options = connection['options'];
  const client = isRecord(options) ? options : connection;
  return [...clientViolations(client), ...clientPrefixViolations(path, client['keyPrefix'])];
}

/** What a URL says that the client would misread, and go elsewhere. */
function urlViolations(url: URL, path: string): OptionViolation[] {
  const database = url.pathname.replace(/^\/|\/$/g, '');
  const given = { port: url.port || undefined, db: database || undefined };
  // A password that was not encoded ends the address early, and its rest looks like a database.
  const isSecret = `${url.pathname}${url.search}${url.hash}`.includes('@');
  return [
    ...clientViolations({ ...given, ...Object.fromEntries(url.searchParams) }, path).map(
      (violation) => (isSecret ? { ...violation, value: '***' } : violation),
    ),
    ...clientPrefixViolations(path, url.searchParams.get('keyPrefix')),
  ];
}

const MAX_DATABASE = 2_147_483_647;
const URL_BELONGS = "no such field: a URL is given as it is, connection: 'redis://host:6379'";

/** The fields of a connection that the client takes without a check, and what is allowed for each. */
const CLIENT_FIELDS: Readonly<
  Record<string, { readonly allowed: string; readonly fits: (value: unknown) => boolean }>
> = {
  host: {
    // A URL in its place would never connect, and its password would be told as part of an address.
    allowed:
      "a host name or an address; a whole URL is given as the connection itself: { connection: 'redis://...' }",
    fits: (value) => typeof value === 'string' && /^[^\s/@]+$/.test(value),
  },
  port: { allowed: 'a whole number from 1 to 65535', fits: (value) => isWhole(value, 1, 65_535) },
  db: {
    allowed: 'a database number, 0 or more',
    fits: (value) => isWhole(value, 0, MAX_DATABASE),
  },
  url: { allowed: URL_BELONGS, fits: () => false },
  uri: { allowed: URL_BELONGS, fits: () => false },
};

function clientViolations(
  client: Readonly<Record<string, unknown>>,
  path = 'connection',
): OptionViolation[] {
  return Object.entries(CLIENT_FIELDS)
    .filter(([field, { fits }]) => client[field] !== undefined && !fits(client[field]))
    .map(([field, { allowed }]) => {
      const value = client[field];
      const shown = typeof value === 'string' ? redactUrl(value) : value;
      return { path: `${path}.${field}`, value: show(shown), allowed };
    });
}

/** A number, or its digits: an environment's variable is a string, and the client reads those too. */
function isWhole(value: unknown, least: number, most: number): boolean {
  if (typeof value === 'string')
    return /^\d{1,10}$/.test(value) && isWhole(Number(value), least, most);
  return Number.isInteger(value) && Number(value) >= least && Number(value) <= most;
}

function clientPrefixViolations(path: string, prefix: unknown): OptionViolation[] {
  if (typeof prefix !== 'string' || prefix === '') return [];
  return [
    {
      path,
      value: `with ioredis's own keyPrefix ${show(prefix)}`,
      allowed:
        'no keyPrefix there (it does not reach channels and scripts): use the keyPrefix option of FunctionsModule',
    },
  ];
}

function metricsViolations(metrics: unknown): OptionViolation[] {
  if (metrics === undefined || typeof metrics === 'boolean') return [];
  if (!isRecord(metrics))
    return [{ path: 'metrics', value: show(metrics), allowed: ALLOWED.metrics }];
  const { path, ...others } = metrics;
  const unknown = Object.keys(others).map((name) => ({
    path: `metrics.${name}`,
    value: 'an option that does not exist',
    allowed: 'path',
  }));
  if (path === undefined || isPath(path)) return unknown;
  return [
    ...unknown,
    { path: 'metrics.path', value: show(path), allowed: 'a path such as /metrics' },
  ];
}

function isPath(value: unknown): boolean {
  return typeof value === 'string' && /^\/?[^\s:*]+$/.test(value);
}

function healthViolations(health: unknown): OptionViolation[] {
  if (health === undefined || typeof health === 'boolean') return [];
  if (!isRecord(health)) return [{ path: 'health', value: show(health), allowed: ALLOWED.health }];
  const violations: OptionViolation[] = [];
  const { path, required, ...others } = health;
  for (const name of Object.keys(others)) {
    violations.push({
      path: `health.${name}`,
      value: 'an option that does not exist',
      allowed: 'path, required',
    });
  }
  if (path !== undefined && !isPath(path)) {
    violations.push({ path: 'health.path', value: show(path), allowed: 'a path such as /health' });
  }
  if (required !== undefined && !Array.isArray(required)) {
    violations.push({
      path: 'health.required',
      value: show(required),
      allowed: 'an array of { functionName, workflowId }',
    });
  }
  for (const [index, fn] of (Array.isArray(required) ? required : []).entries()) {
    const fine =
      isRecord(fn) &&
      Object.keys(fn).every((name) => name === 'functionName' || name === 'workflowId') &&
      isName(fn['functionName']) &&
      (fn['workflowId'] === undefined || isName(fn['workflowId']));
    if (!fine) {
      violations.push({
        path: `health.required[${index}]`,
        value: show(fn),
        allowed: '{ functionName, workflowId }',
      });
    }
  }
  return violations;
}

function isName(value: unknown): boolean {
  try {
    assertName('The name', value);
    return true;
  } catch {
    return false;
  }
}
