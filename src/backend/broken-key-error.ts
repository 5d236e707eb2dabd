/** A key of the library that holds something else: somebody wrote to it. Nothing here deletes what is not its own. */
export class BrokenKeyError extends Error {
  override readonly name = 'BrokenKeyError';

  /** @param type what belongs there, as Redis's TYPE names it */
  constructor(
    readonly key: string,
    type: string,
  ) {
    super(
      `The key ${key} holds no ${type}: somebody else wrote it. Delete it (DEL ${key}); everything goes on by itself then.`,
    );
  }
}
