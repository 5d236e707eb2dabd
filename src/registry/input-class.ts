import { Type } from 'class-transformer';
// @ts-expect-error -- the package declares no types for it; Nest's mapped-types and others read it too
import { defaultMetadataStorage } from 'class-transformer/cjs/storage.js';
import { getMetadataStorage } from 'class-validator';
import { InvalidArgumentError } from '../common/errors.js';
import { messageOf, show } from '../common/text.js';

/** A class with class-validator decorators. */
export type InputClass<Input extends object = object> = new (...args: never[]) => Input;

/** A rule of class-validator on a property. */
export type Rule = ReturnType<
  ReturnType<typeof getMetadataStorage>['getTargetValidationMetadatas']
>[number];

/** What class-transformer does to a property on its way into the class. */
export interface Transformation {
  /** The name by which a caller passes it; `undefined` when that depends on more than the class. */
  readonly name: string | undefined;
  /** Whether it is set even where the caller passes nothing, which erases what an initialiser made. */
  readonly isExposed: boolean;
  /** Whether the class makes another value of what is passed. */
  readonly isTransformed: boolean;
}

interface ExposeOptions {
  readonly name?: string;
  readonly groups?: readonly string[];
  readonly since?: number;
  readonly until?: number;
  readonly toPlainOnly?: boolean;
}

/** The part of class-transformer's storage that is read here. */
interface TransformerStorage {
  findTypeMetadata(target: InputClass, property: string): unknown;
  findTransformMetadatas(target: InputClass, property: string, type: number): unknown[];
  findExposeMetadata(
    target: InputClass,
    property: string,
  ): { readonly options?: ExposeOptions } | undefined;
}

const PLAIN_TO_CLASS = 0;
const storage = defaultMetadataStorage as TransformerStorage;

class Probe {
  readonly value!: number;
}
Type(() => Number)(Probe.prototype, 'value');
/** A bundle may hold class-transformer twice, and its decorators fill another storage than this one. */
const isReadable = storage.findTypeMetadata(Probe, 'value') !== undefined;

/** All rules of an input class, inherited ones too. */
export function rulesOf(input: InputClass): Rule[] {
  return getMetadataStorage().getTargetValidationMetadatas(input, '', false, false);
}

/** What becomes of a property; `undefined` when it cannot be known. */
export function transformationOf(input: InputClass, property: string): Transformation | undefined {
  if (!isReadable) return undefined;
  const expose = storage.findExposeMetadata(input, property);
  const { name, groups, since, until, toPlainOnly } = expose?.options ?? {};
  const isExposed = expose !== undefined && toPlainOnly !== true;
  const isConditional = groups !== undefined || since !== undefined || until !== undefined;
  return {
    name: isConditional ? undefined : ((isExposed ? name : undefined) ?? property),
    isExposed,
    isTransformed:
      storage.findTypeMetadata(input, property) !== undefined ||
      storage.findTransformMetadatas(input, property, PLAIN_TO_CLASS).length > 0,
  };
}

/**
 * Refuses what class-validator would refuse at every call, with a text that nobody understands.
 *
 * @throws InvalidArgumentError
 */
export function assertInputClass(functionName: string, input: unknown): void {
  const refuse = (given: string, allowed: string): never => {
    throw new InvalidArgumentError(`input of ${functionName}`, given, allowed);
  };
  if (typeof input !== 'function')
    return refuse(show(input), 'a class with class-validator decorators');
  if (rulesOf(input as InputClass).length === 0) {
    refuse(
      `${show(input)} without any validator`,
      'a class whose properties have class-validator decorators, @Allow() where anything goes; leave input out to ' +
        'take parameters as they come',
    );
  }
}

/**
 * An instance as class-transformer makes it, before it sets what was passed.
 *
 * @throws InvalidArgumentError its constructor needs arguments
 */
export function emptyInput(
  functionName: string,
  input: InputClass,
): Readonly<Record<string, unknown>> {
  try {
    return new (input as new () => Record<string, unknown>)();
  } catch (error) {
    throw new InvalidArgumentError(
      `input of ${functionName}`,
      `${show(input)} whose constructor fails without arguments (${messageOf(error)})`,
      'a class that can be made without arguments: the parameters are set on an instance that exists already',
    );
  }
}
