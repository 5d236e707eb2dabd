/** Milliseconds of the machine's monotonic clock: the same in all processes of this machine. */
export function sharedClockMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
