/** What an action throws; `undefined` when it throws nothing. */
export function caught(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** The code of the error that a call ends with; `none` when it ends with a value. */
export const codeOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => 'none',
    (error: { code?: unknown }) => error.code,
  );

/** What a promise rejects with; `undefined` when it is fulfilled. */
export function rejection(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}
