/** Up to `count` of them, each once, beginning where the last turn ended. */
export function takeInTurn<T>(all: readonly T[], turn: number, count: number): T[] {
  const from = all.length === 0 ? 0 : turn % all.length;
  return [...all.slice(from), ...all.slice(0, from)].slice(0, count);
}
