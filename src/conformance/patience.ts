import assert from 'node:assert/strict';
import { clearTimeout, setTimeout } from 'node:timers';

/** What happens "at once" has happened by then, on a busy machine too. */
export const AT_ONCE_MS = 1_500;
/** A read that waits longer than anything that happens at once. */
export const LONG_BLOCK_MS = 5_000;
/** A read that finds out that nothing comes. */
export const SHORT_BLOCK_MS = 60;

/** Settles as `work` does, or fails when that takes longer than what happens at once. */
export async function atOnce<T>(what: string, work: Promise<T>, limitMs = AT_ONCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new assert.AssertionError({ message: `${what}: not within ${limitMs} ms` })),
      limitMs,
    );
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks until the answer is there; for what no message tells of. */
export async function becomes<T>(
  what: string,
  ask: () => Promise<T | undefined>,
  limitMs = AT_ONCE_MS,
): Promise<T> {
  const until = Date.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > until)
      throw new assert.AssertionError({ message: `${what}: not within ${limitMs} ms` });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Work that is awaited later: a case that fails before that leaves no rejection that nobody hears. */
export function begun<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}
