import { InvalidArgumentError } from './errors.js';

/**
 * Refuses a field that does not exist, with those that do: a misspelt option must not be ignored. `undefined` is
 * as good as left out. Called for every call, so it makes nothing unless it refuses.
 *
 * @param path the field as the error names it
 * @throws InvalidArgumentError
 */
export function assertKnownKeys(
  value: object,
  known: ReadonlySet<string>,
  path: (key: string) => string,
): void {
  for (const key in value) {
    if (known.has(key) || (value as Record<string, unknown>)[key] === undefined) continue;
    throw new InvalidArgumentError(
      path(key),
      'an option that does not exist',
      known.size === 0 ? 'none' : `one of ${[...known].join(', ')}`,
    );
  }
}
