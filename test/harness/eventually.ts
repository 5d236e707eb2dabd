/**
 * Waits until `check` stops throwing (and does not return `false`), looking again every few milliseconds.
 * For state that has no event to await; says what it waited for when it gives up.
 */
export async function eventually<T>(
  what: string,
  check: () => T | Promise<T>,
  limitMs = 10_000,
): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    let problem: unknown;
    try {
      const value = await check();
      if (value !== false) return value;
      problem = new Error('it stayed false');
    } catch (error) {
      problem = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what} did not come true within ${limitMs} ms`, { cause: problem });
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
