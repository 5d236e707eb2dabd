import { clearTimeout, setTimeout } from 'node:timers';

/**
 * Settles as `work` does, or rejects with `onTimeout()` after so many real milliseconds, for which it keeps the process
 * alive. A test that replaces the timers of its globals does not mean this one.
 */
export async function withinReal<T>(
  ms: number,
  work: Promise<T>,
  onTimeout: () => Error,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(onTimeout()), ms);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
