import { createHash } from 'node:crypto';
import { InvalidArgumentError, type ParameterViolation } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { show } from '../common/text.js';
import { assertName } from './function-ref.js';
import { decodeJson, encodeJson, isRecord } from './json.js';

/** Types that a parameter can be declared with. */
export const PARAMETER_TYPES = [
  'string',
  'number',
  'integer',
  'boolean',
  'object',
  'array',
  'any',
] as const;

/** One of {@link PARAMETER_TYPES}. */
export type ParameterType = (typeof PARAMETER_TYPES)[number];

/** One named argument of a function. */
export interface ParameterDefinition {
  readonly name: string;
  readonly type: ParameterType;
  /** Default `false`; a parameter with a default is never missing. */
  readonly required?: boolean;
  /** Used by the worker where the caller passes nothing. */
  readonly default?: unknown;
  readonly description?: string;
}

/** What a function is called, what it is for and what it takes. */
export interface FunctionDefinition {
  readonly name: string;
  readonly workflowId: string;
  readonly description?: string;
  /** Absent: anything goes. Empty: it takes nothing. */
  readonly parameters?: readonly ParameterDefinition[];
}

const MAX_DEFINITION_BYTES = 256 * 1024;

/**
 * Checks a definition.
 *
 * @throws InvalidNameError, InvalidArgumentError, PayloadNotSerializableError
 */
export function assertDefinition(definition: FunctionDefinition): void {
  assertName('The function name', definition.name);
  assertName('The workflowId', definition.workflowId);
  if (definition.description !== undefined && typeof definition.description !== 'string') {
    throw new InvalidArgumentError('description', show(definition.description), 'a string');
  }
  if (definition.parameters === undefined) return;
  if (!Array.isArray(definition.parameters)) {
    throw new InvalidArgumentError(
      'parameters',
      show(definition.parameters),
      'an array of { name, type, required?, default? }',
    );
  }
  const seen = new Set<string>();
  const parameters = definition.parameters as readonly ParameterDefinition[];
  for (const [index, parameter] of parameters.entries()) {
    assertParameter(`parameters[${index}]`, parameter);
    if (seen.has(parameter.name)) {
      throw new InvalidArgumentError(
        `parameters[${index}].name`,
        show(parameter.name),
        'a name once',
      );
    }
    seen.add(parameter.name);
  }
  encodeJson('definition', definition, MAX_DEFINITION_BYTES, false);
}

const FUNCTION_FIELDS: ReadonlySet<string> = new Set<keyof FunctionDefinition>([
  'name',
  'workflowId',
  'description',
  'parameters',
]);
const PARAMETER_FIELDS: ReadonlySet<string> = new Set<keyof ParameterDefinition>([
  'name',
  'type',
  'required',
  'default',
  'description',
]);

/**
 * {@link assertDefinition} for one that an application wrote: a field that does not exist is refused as well. One
 * that is stored may come from a newer version of this package, and have more.
 *
 * @throws InvalidNameError, InvalidArgumentError, PayloadNotSerializableError
 */
export function assertKnownDefinition(definition: FunctionDefinition): void {
  assertDefinition(definition);
  assertKnownKeys(definition, FUNCTION_FIELDS, (key) => `definition.${key}`);
  for (const [index, parameter] of (definition.parameters ?? []).entries())
    assertKnownKeys(parameter, PARAMETER_FIELDS, (key) => `parameters[${index}].${key}`);
}

function assertParameter(path: string, parameter: ParameterDefinition): void {
  if (!isRecord(parameter)) {
    throw new InvalidArgumentError(path, show(parameter), '{ name, type, required?, default? }');
  }
  assertName(`${path}.name`, parameter.name);
  if (parameter.name === '__proto__') {
    throw new InvalidArgumentError(`${path}.name`, show(parameter.name), 'any other name');
  }
  if (!PARAMETER_TYPES.includes(parameter.type)) {
    throw new InvalidArgumentError(
      `${path}.type`,
      show(parameter.type),
      PARAMETER_TYPES.join(', '),
    );
  }
  if (parameter.required !== undefined && typeof parameter.required !== 'boolean') {
    throw new InvalidArgumentError(`${path}.required`, show(parameter.required), 'true or false');
  }
  if (parameter.default !== undefined && !hasType(parameter.default, parameter.type)) {
    throw new InvalidArgumentError(
      `${path}.default`,
      show(parameter.default),
      `a value of type ${parameter.type}`,
    );
  }
}

/** A definition as the registry stores it. */
export function encodeDefinition(definition: FunctionDefinition): string {
  return JSON.stringify({
    name: definition.name,
    workflowId: definition.workflowId,
    description: definition.description,
    parameters: definition.parameters,
  });
}

/** A stored definition; `undefined` when it is none. */
export function parseDefinition(text: string): FunctionDefinition | undefined {
  try {
    const value = decodeJson(text) as FunctionDefinition;
    assertDefinition(value);
    return value;
  } catch {
    return undefined;
  }
}

/** A short fingerprint: two definitions with the same one are the same. */
export function definitionFingerprint(encoded: string): string {
  return createHash('sha1').update(encoded).digest('base64url').slice(0, 12);
}

/**
 * What is wrong with the parameters of a call; empty when nothing is.
 *
 * @param unknown whether parameters that are not declared are wrong: for a caller they are, a worker drops them
 *   ({@link fitParameters})
 */
export function checkParameters(
  definition: FunctionDefinition,
  parameters: unknown,
  unknown: 'refused' | 'dropped' = 'refused',
): ParameterViolation[] {
  const declared = definition.parameters;
  if (declared === undefined) return [];
  if (!isRecord(parameters)) {
    return [
      {
        parameter: '(all)',
        problem: `the parameters are ${kindOf(parameters)}, an object is needed`,
      },
    ];
  }
  const violations: ParameterViolation[] = [];
  let known = 0;
  for (const parameter of declared) {
    const value = Object.hasOwn(parameters, parameter.name)
      ? parameters[parameter.name]
      : undefined;
    if (Object.hasOwn(parameters, parameter.name)) known += 1;
    // class-validator takes null for nothing where a property is optional.
    if (value === null && parameter.required !== true) continue;
    if (value === undefined) {
      if (parameter.required === true && parameter.default === undefined) {
        violations.push({
          parameter: parameter.name,
          problem: `it is required (${parameter.type})`,
        });
      }
    } else if (!hasType(value, parameter.type)) {
      violations.push({
        parameter: parameter.name,
        problem: `it is ${kindOf(value)}, declared as ${parameter.type}`,
      });
    }
  }
  const names = Object.keys(parameters);
  if (names.length > known && unknown === 'refused')
    violations.push(...unknownParameters(declared, names));
  return violations;
}

/** What a value is, not what is in it: the text goes into logs and into the error's details. */
function kindOf(value: unknown): string {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'bigint':
      return `a ${typeof value}`;
    case 'number':
      if (Number.isInteger(value)) return 'a number';
      return Number.isFinite(value) ? 'a fraction' : String(value);
    default:
      return show(value);
  }
}

function unknownParameters(
  declared: readonly ParameterDefinition[],
  names: string[],
): ParameterViolation[] {
  const allowed = declared.map((parameter) => parameter.name);
  return names
    .filter((name) => !allowed.includes(name))
    .map((name) => ({
      parameter: name,
      problem: `it is unknown (allowed: ${allowed.length === 0 ? 'none' : allowed.join(', ')})`,
    }));
}

/**
 * The parameters as a handler gets them: what its definition declares, with the defaults filled in. What it does
 * not declare is dropped: in a rolling deploy the caller's definition may be newer than this worker's, and what
 * somebody wrote by hand does not get past a definition. The given object is not changed.
 */
export function fitParameters(definition: FunctionDefinition, parameters: unknown): unknown {
  const declared = definition.parameters;
  if (!isRecord(parameters) || declared === undefined) return parameters;
  let known = 0;
  let filled: Record<string, unknown> | undefined;
  for (const parameter of declared) {
    // Own properties only: a parameter may be called toString or constructor.
    const given = Object.hasOwn(parameters, parameter.name);
    if (given) known += 1;
    if (parameter.default === undefined) continue;
    if (given && parameters[parameter.name] !== undefined) continue;
    filled ??= { ...parameters };
    filled[parameter.name] = structuredClone(parameter.default);
  }
  const fitting = filled ?? parameters;
  if (Object.keys(parameters).length === known) return fitting;
  const names = new Set(declared.map((parameter) => parameter.name));
  return Object.fromEntries(Object.entries(fitting).filter(([name]) => names.has(name)));
}

function hasType(value: unknown, type: ParameterType): boolean {
  switch (type) {
    case 'any':
      return true;
    case 'string':
      // A Date and its like become strings on the wire.
      return typeof value === 'string' || value instanceof Date;
    case 'number':
      return typeof value === 'number' && Number.isFinite(value);
    case 'integer':
      return Number.isInteger(value);
    case 'boolean':
      return typeof value === 'boolean';
    case 'array':
      return Array.isArray(value);
    case 'object':
      return isRecord(value);
  }
}
