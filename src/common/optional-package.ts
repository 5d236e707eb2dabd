import { InvalidOptionsError, type OptionViolation } from './errors.js';

/**
 * For the `catch` of an import of a package that only an option needs: says what to install. What is missing inside
 * of that package, or fails in it, is thrown as it is.
 *
 * @throws InvalidOptionsError
 */
export function explainMissing(
  packageName: string,
  violation: OptionViolation,
): (error: unknown) => never {
  return (error) => {
    const { code, message } = Object(error) as Partial<NodeJS.ErrnoException>;
    const isMissing =
      /MODULE_NOT_FOUND$/.test(code ?? '') && message?.includes(`'${packageName}'`) === true;
    throw isMissing ? new InvalidOptionsError([violation]) : error;
  };
}
