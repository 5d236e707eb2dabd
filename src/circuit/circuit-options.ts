import {
  IsBoolean,
  IsInt,
  IsNumber,
  Max,
  Min,
  ValidateBy,
  validateSync,
  type ValidationError,
} from 'class-validator';
import { InvalidArgumentError, type OptionViolation } from '../common/errors.js';
import type { CircuitPolicySettings, CircuitSettings } from '../common/settings.js';
import { show } from '../common/text.js';
import { functionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';

const IsFunction = (): PropertyDecorator =>
  ValidateBy({
    name: 'isFunction',
    validator: { validate: (value: unknown) => typeof value === 'function' },
  });

/** When the circuit of a function opens, and for how long. */
export class CircuitPolicy {
  /** Failed part of the calls from which on it opens, over all callers. Default 0.5. */
  @IsNumber()
  @Min(0.01)
  @Max(1)
  readonly failureRate?: number;

  /** Calls within the window, of all callers, below which it does not open. Default 20. */
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  readonly minimumCalls?: number;

  /** What is older does not count. Default 10 000. */
  @IsInt()
  @Min(100)
  @Max(3_600_000)
  readonly windowMs?: number;

  /**
   * More than this part of the callers that called within the window have to see the failure rate themselves, and two
   * of them where there are two. Default 0.5.
   */
  @IsNumber()
  @Min(0)
  @Max(1)
  readonly quorum?: number;

  /** How long it stays open before one call tries again. Default 5 000. */
  @IsInt()
  @Min(10)
  @Max(86_400_000)
  readonly openMs?: number;

  /** What counts as a failure; `undefined` leaves it to the library (docs/circuit-breakers.md). */
  @IsFunction()
  readonly isFailure?: (error: Error) => boolean | undefined;
}

/** A function whose circuit is another than that of the rest. */
export class FunctionCircuitOptions extends CircuitPolicy {
  readonly functionName!: string;
  /** Default: the module's `workflowId`. */
  readonly workflowId?: string;
  /** `false`: this function has no circuit. Default `true`. */
  @IsBoolean()
  readonly enabled?: boolean;
}

/** The `circuit` option of the module: the policy of all functions that it calls, unless they have their own. */
export class CircuitOptions extends CircuitPolicy {
  /** `false`: only the functions that are listed, or whose contract says so, have a circuit. Default `true`. */
  @IsBoolean()
  readonly enabled?: boolean;
  /** Functions with a policy of their own; what it leaves out is the module's. */
  readonly functions?: readonly FunctionCircuitOptions[];
}

/** Defaults of a policy. */
export const CIRCUIT_DEFAULTS: CircuitPolicySettings = Object.freeze({
  failureRate: 0.5,
  minimumCalls: 20,
  windowMs: 10_000,
  quorum: 0.5,
  openMs: 5_000,
  isFailure: undefined,
});

/** What is allowed, per field of a policy. */
export const CIRCUIT_ALLOWED: Readonly<Record<keyof CircuitPolicy, string>> = Object.freeze({
  failureRate: 'a number from 0.01 to 1',
  minimumCalls: 'a whole number from 1 to 1000000',
  windowMs: 'whole milliseconds from 100 to 3600000',
  quorum: 'a number from 0 to 1',
  openMs: 'whole milliseconds from 10 to 86400000',
  isFailure: 'a function of the error',
});
const ENABLED = { enabled: 'true or false' };
const OF_MODULE = {
  ...CIRCUIT_ALLOWED,
  ...ENABLED,
  functions: 'an array of { functionName, ... }',
};
const OF_FUNCTION = {
  ...CIRCUIT_ALLOWED,
  ...ENABLED,
  functionName: 'a name of 1 to 256 characters',
  workflowId: 'a name of 1 to 256 characters',
};
/** What the option may be. */
export const CIRCUIT_OPTION = `true, false, or { ${Object.keys(OF_MODULE).join(', ')} }`;

/** Everything that is wrong with the `circuit` option of the module. */
export function circuitViolations(circuit: unknown): OptionViolation[] {
  if (circuit === undefined || typeof circuit === 'boolean') return [];
  if (!isRecord(circuit))
    return [{ path: 'circuit', value: show(circuit), allowed: CIRCUIT_OPTION }];
  const { functions } = circuit;
  const listed: readonly unknown[] = Array.isArray(functions) ? functions : [];
  return [
    ...violationsOf('circuit', Object.assign(new CircuitOptions(), circuit), OF_MODULE),
    ...(functions === undefined || Array.isArray(functions)
      ? []
      : [{ path: 'circuit.functions', value: show(functions), allowed: OF_MODULE.functions }]),
    ...listed.flatMap((fn, index) => functionViolations(`circuit.functions[${index}]`, fn)),
  ];
}

function functionViolations(path: string, fn: unknown): OptionViolation[] {
  if (!isRecord(fn)) return [{ path, value: show(fn), allowed: '{ functionName, ... }' }];
  const names = (['functionName', 'workflowId'] as const)
    .filter((name) => (name === 'functionName' || fn[name] !== undefined) && !isName(fn[name]))
    .map((name) => ({
      path: `${path}.${name}`,
      value: show(fn[name]),
      allowed: OF_FUNCTION[name],
    }));
  return [
    ...names,
    ...violationsOf(path, Object.assign(new FunctionCircuitOptions(), fn), OF_FUNCTION),
  ];
}

function violationsOf(
  path: string,
  options: object,
  allowed: Readonly<Record<string, string>>,
): OptionViolation[] {
  const unknown = Object.entries(options)
    .filter(([name, value]) => value !== undefined && !Object.hasOwn(allowed, name))
    .map(([name]) => ({
      path: `${path}.${name}`,
      value: 'an option that does not exist',
      allowed: `one of ${Object.keys(allowed).join(', ')}`,
    }));
  const wrong = validateSync(options, { skipUndefinedProperties: true }).map(
    ({ property, value }: ValidationError) => ({
      path: `${path}.${property}`,
      value: show(value),
      allowed: allowed[property] ?? '',
    }),
  );
  return [...unknown, ...wrong];
}

/** The `circuit` option, which was checked, completed. */
export function resolveCircuit(
  circuit: boolean | CircuitOptions | undefined,
  workflowId: string,
): CircuitSettings | undefined {
  if (circuit === undefined || circuit === false) return undefined;
  const { enabled = true, functions = [], ...rest } = circuit === true ? {} : circuit;
  const policy = withPolicy(CIRCUIT_DEFAULTS, rest);
  const own = functions.map((fn) => {
    const { functionName, workflowId: of = workflowId, enabled: isOn = true, ...its } = fn;
    return [functionRef(functionName, of).id, isOn ? withPolicy(policy, its) : undefined] as const;
  });
  return { policy: enabled ? policy : undefined, functions: new Map(own) };
}

/**
 * Checks the `circuit` of a contract.
 *
 * @throws InvalidArgumentError
 */
export function assertCircuitPolicy(name: string, circuit: unknown): void {
  if (circuit === undefined || typeof circuit === 'boolean') return;
  if (!isRecord(circuit))
    throw new InvalidArgumentError(
      `circuit of ${name}`,
      show(circuit),
      `true, false, or { ${Object.keys(CIRCUIT_ALLOWED).join(', ')} }`,
    );
  const options = Object.assign(new CircuitPolicy(), circuit);
  const [violation] = violationsOf(`circuit of ${name}`, options, CIRCUIT_ALLOWED);
  if (violation !== undefined)
    throw new InvalidArgumentError(violation.path, violation.value, violation.allowed);
}

/** A policy with some of it changed; what is `undefined` is as good as left out. */
export function withPolicy(
  policy: CircuitPolicySettings,
  changes: CircuitPolicy,
): CircuitPolicySettings {
  const defined = Object.entries(changes).filter(([, value]) => value !== undefined);
  return Object.freeze({ ...policy, ...(Object.fromEntries(defined) as Partial<typeof policy>) });
}

function isName(value: unknown): boolean {
  try {
    functionRef(value as string, 'default');
    return true;
  } catch {
    return false;
  }
}
