import { plainToInstance, type ClassConstructor } from 'class-transformer';
import { validate, type ValidationError } from 'class-validator';
import { InvalidInputError } from '../common/errors.js';
import type { InputClass } from './input-class.js';

/** Turns parameters into an instance of the handler's input class, or refuses them with what is wrong. */
export class InputPipe {
  constructor(
    private readonly input: InputClass,
    private readonly functionName: string,
  ) {}

  async transform(value: unknown): Promise<unknown> {
    const Class = this.input as unknown as ClassConstructor<object>;
    const instance: object = value instanceof Class ? value : plainToInstance(Class, value ?? {});
    const errors = await validate(instance, {
      forbidUnknownValues: true,
      validationError: { target: false, value: false },
    });
    if (errors.length > 0) throw new InvalidInputError(this.functionName, describe(errors, ''));
    return instance;
  }
}

function describe(errors: readonly ValidationError[], path: string): string[] {
  return errors.flatMap((error) => {
    const here = path === '' ? error.property : `${path}.${error.property}`;
    const own = Object.values(error.constraints ?? {}).map((text) =>
      path === '' ? text : `${here}: ${text}`,
    );
    return [...own, ...describe(error.children ?? [], here)];
  });
}
