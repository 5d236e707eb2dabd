/** A reply stream that holds more takes no progress. Final answers are not cut: there are as many as calls that wait. */
export const PROGRESS_CAP = 10_000;
/** A function's dead letters are cut at about this many. */
export const DEAD_LETTER_CAP = 10_000;
