import { ERROR_CODES, FunctionsError } from '../common/errors.js';

/** A key of the library that holds something else: somebody wrote to it. Nothing here deletes what is not its own. */
export class BrokenKeyError extends FunctionsError {
  /** As {@link BackendRefusedError.kind}. */
  readonly kind = 'WRONGTYPE';

  /** @param type what belongs there, as Redis's TYPE names it */
  constructor(
    readonly key: string,
    type: string,
  ) {
    super(
      ERROR_CODES.BACKEND_REFUSED,
      `The key ${key} holds no ${type}: somebody else wrote it. Delete it (DEL ${key}); everything goes on by itself then.`,
      { details: { kind: 'WRONGTYPE', key } },
    );
  }
}
