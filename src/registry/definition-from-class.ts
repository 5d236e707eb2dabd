import { getMetadataStorage } from 'class-validator';
import type { ParameterDefinition, ParameterType } from '../protocol/definition.js';
import type { InputClass } from './input-pipe.js';

/** Validators that say more about a type than TypeScript's emitted `Object` or `Number` does. */
const TYPE_OF_VALIDATOR: Readonly<Record<string, ParameterType>> = {
  isString: 'string',
  isNumber: 'number',
  isInt: 'integer',
  isBoolean: 'boolean',
  isArray: 'array',
  isObject: 'object',
};

/** What an input class takes, from its class-validator decorators and emitted types. */
export function parametersOf(input: InputClass): ParameterDefinition[] {
  const storage = getMetadataStorage();
  const metadata = storage.getTargetValidationMetadatas(input, '', false, false);
  const properties = [...new Set(metadata.map(({ propertyName }) => propertyName))];
  const defaults = defaultsOf(input);
  return properties.map((name) => {
    const own = metadata.filter(({ propertyName }) => propertyName === name);
    const optional = own.some(
      ({ type, name: validator }) => type === 'conditionalValidation' && validator !== 'validateIf',
    );
    return {
      name,
      type: typeOf(
        input,
        name,
        // `each` speaks of the elements, not of the parameter.
        own.filter(({ each }) => !each).map((rule) => rule.name),
      ),
      required: !optional && defaults[name] === undefined,
    };
  });
}

/** What the class's initialisers set: the worker's instance has it where the caller passes nothing. */
function defaultsOf(input: InputClass): Readonly<Record<string, unknown>> {
  try {
    return new (input as new () => Record<string, unknown>)();
  } catch {
    return {};
  }
}

function typeOf(
  input: InputClass,
  property: string,
  validators: readonly (string | undefined)[],
): ParameterType {
  for (const validator of validators) {
    const type = validator === undefined ? undefined : TYPE_OF_VALIDATOR[validator];
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
