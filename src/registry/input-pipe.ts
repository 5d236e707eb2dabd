import { plainToInstance } from 'class-transformer';
import { validate, type ValidationError } from 'class-validator';
import { InvalidInputError } from '../common/errors.js';

/** A class with class-validator decorators. */
export type InputClass<Input extends object = object> = new (...args: never[]) => Input;

/** Turns parameters into an instance of the handler's input class, or refuses them with what is wrong. */
export class InputPipe {
  constructor(private readonly input: InputClass) {}

  async transform(value: unknown): Promise<unknown> {
    const instance: object =
      value instanceof this.input
        ? value
        : plainToInstance(this.input as new () => object, value ?? {});
    const errors = await validate(instance, {
      forbidUnknownValues: true,
      validationError: { target: false, value: false },
    });
    if (errors.length > 0) throw new InvalidInputError(this.input.name, describe(errors, ''));
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
