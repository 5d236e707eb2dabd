import { SHAKES } from './faults.js';
import type { Story } from './story.js';

/** Reconnects are tried half a second apart, and the first answer makes it shared again. */
const ALONE_MS = 10_000;

/** Who decides by itself had a reason, and does so no longer than that. */
export function checkAlone(story: Story): string[] {
  const violations: string[] = [];
  const since = new Map<string, number>();
  for (const { e, who, t } of story.alone) {
    const life = story.lives.get(who);
    const isDisturbed = (from: number, to: number): boolean =>
      story.faults.overlaps(from, to, SHAKES) || story.faults.wasFrozen(who, from, to);
    if (e === 'alone') {
      since.set(who, t);
      if (!isDisturbed(t, t) && (life?.stoppingAt ?? Infinity) > t)
        violations.push(`circuit: ${who} decided by itself at ${t.toFixed(0)} without a reason`);
      continue;
    }
    const from = since.get(who) ?? t;
    since.delete(who);
    if (t - from > ALONE_MS && !isDisturbed(t - ALONE_MS, t))
      violations.push(`circuit: ${who} decided by itself for ${Math.round(t - from)} ms`);
  }
  for (const [who, t] of since) {
    const { lastSeenAt, stoppingAt } = story.lives.get(who) ?? { lastSeenAt: t };
    const to = Math.min(lastSeenAt, stoppingAt ?? Infinity);
    if (to - t > ALONE_MS && !story.faults.overlaps(to - ALONE_MS, to, SHAKES))
      violations.push(`circuit: ${who} decided by itself from ${t.toFixed(0)} to its end`);
  }
  return violations;
}
