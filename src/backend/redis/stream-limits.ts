/** A reply stream is cut at about this many entries: a caller that reads at all is never that far behind. */
export const REPLY_STREAM_CAP = 10_000;
/** A function's dead letters are cut at about this many. */
export const DEAD_LETTER_CAP = 10_000;
