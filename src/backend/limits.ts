/** Bounds that every backend keeps, so that an application meets the same ones on each. */

/**
 * A reply stream that holds so many values takes no progress. Final answers are not cut: there are as many as calls that
 * wait.
 */
export const PROGRESS_CAP = 10_000;
/** A function's dead letters are cut at about this many. */
export const DEAD_LETTER_CAP = 10_000;
/** Calls of one function that wait for another attempt, at the most; further failures are final. */
export const MAX_ASIDE = 100_000;
/** A call that its worker passes on goes back at once so often, and as often as the function has workers. */
export const PASSES_AT_ONCE = 4;
/** Afterwards it waits aside, twice as long each time, and so long at the most. */
export const LAST_PASS_DELAY_MS = 500;
/** A reply stream outlives its caller's last heartbeat by this. */
export const REPLY_STREAM_TTL_MS = 60_000;
/** An epoch of a worker that left is remembered this long: far longer than the server's clock ever steps back. */
export const EPOCH_MEMORY_MS = 60_000;
/** How long a session that was frozen can find out that its calls were handed over, and not forgotten. */
export const GRAVE_MS = 3_600_000;
/** What is kept of a shared call beyond the longest of those who wait for it: who is left then has given up. */
export const ONCE_GRACE_MS = 60_000;
/** After a group was destroyed its workers get this long to claim what they run, before the rest runs again. */
export const CLAIM_GRACE_MS = 400;
/** How long a circuit that is closed, or whose time is up, is remembered: far longer than news and reports are under way. */
export const CIRCUIT_MEMORY_MS = 3_600_000;
/** How often a caller reports what it counted for a circuit, at the most, unless that might open it. */
export const CIRCUIT_REPORT_MS = 250;
/** After so long everybody who calls has reported. */
export const CIRCUIT_SETTLE_MS = 2 * CIRCUIT_REPORT_MS;
