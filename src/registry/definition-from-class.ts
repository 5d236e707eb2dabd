import type { ParameterDefinition, ParameterType } from '../protocol/definition.js';
import {
  emptyInput,
  rulesOf,
  transformationOf,
  type InputClass,
  type Rule,
} from './input-class.js';

/** Validators that say more about a type than TypeScript's emitted `Object` or `Number` does. */
const TYPE_OF_VALIDATOR: Readonly<Record<string, ParameterType>> = {
  isString: 'string',
  isNumber: 'number',
  isInt: 'integer',
  isBoolean: 'boolean',
  isArray: 'array',
  isObject: 'object',
};

/** Validators that are content where nothing is passed. */
const CONTENT_WITH_NOTHING: ReadonlySet<string> = new Set(['isEmpty', 'notEquals', 'isNotIn']);

/**
 * What an input class takes, from its class-validator and class-transformer decorators and emitted types. It
 * never refuses what the class would take: where the class decides by something that cannot be seen here, the
 * definition lets through what it does not know.
 *
 * @returns `undefined` when not even the names can be known: then the class alone checks
 * @throws InvalidArgumentError the class cannot be made without arguments
 */
export function parametersOf(
  functionName: string,
  input: InputClass,
): ParameterDefinition[] | undefined {
  const rules = rulesOf(input);
  const defaults = emptyInput(functionName, input);
  const parameters: ParameterDefinition[] = [];
  for (const property of new Set(rules.map(({ propertyName }) => propertyName))) {
    const own = rules.filter(({ propertyName }) => propertyName === property);
    const transformation = transformationOf(input, property);
    if (transformation?.name === undefined) return undefined;
    const { name, isExposed, isTransformed } = transformation;
    const isSetAnyway = isExposed ? isTransformed : defaults[property] !== undefined;
    parameters.push({
      name,
      type: isTransformed || !own.some(isCheck) ? 'any' : typeOf(input, property, own),
      required: !isSetAnyway && !own.some(isConditional) && own.some(refusesNothing),
    });
  }
  const names = new Set(parameters.map(({ name }) => name));
  return names.size === parameters.length ? parameters : undefined;
}

/** A rule that looks at the value: `@Allow()` does not. */
function isCheck({ type }: Rule): boolean {
  return type !== 'whitelistValidation' && type !== 'conditionalValidation';
}

/** `@IsOptional()`, `@ValidateIf()`, and validators with a condition of their own. */
function isConditional(rule: Rule): boolean {
  return rule.type === 'conditionalValidation' || rule.validateIf !== undefined;
}

function refusesNothing(rule: Rule): boolean {
  return isCheck(rule) && !CONTENT_WITH_NOTHING.has(rule.name ?? '');
}

function typeOf(input: InputClass, property: string, rules: readonly Rule[]): ParameterType {
  // A condition other than that of @IsOptional() may switch every check off.
  const mayBeOff = rules.some((rule) => isConditional(rule) && rule.name !== 'isOptional');
  if (mayBeOff) return 'any';
  for (const { each, name } of rules) {
    // `each` speaks of the elements, not of the parameter.
    const type = each || name === undefined ? undefined : TYPE_OF_VALIDATOR[name];
    if (type !== undefined) return type;
  }
  switch (Reflect.getMetadata('design:type', input.prototype as object, property)) {
    case String:
      return 'string';
    case Boolean:
      return 'boolean';
    case Array:
      return 'array';
    // A number or a nested class may be transformed from something else: the worker's class decides.
    default:
      return 'any';
  }
}
