/** How an alarm changed: it began, goes on and is told again, or ended. */
export type AlarmChange = 'began' | 'lasts' | 'ended';

/** How long nothing may be found for it to be over. */
const CALM_MS = 2_000;
/** How often it is told again while it lasts. */
const REPEAT_MS = 1_000;

/**
 * Something that is found by looking again and again. It takes some looks in a row to begin and two seconds of calm to
 * end, so that what comes and goes is told once.
 */
export class Alarm {
  private strikes = 0;

  /** @param needed looks in a row that have to find something for it to begin */
  constructor(private readonly needed: number) {}

  private begun = false;
  private foundAt = 0;
  private toldAt = 0;

  get isOn(): boolean {
    return this.begun;
  }

  /** @param now of a clock that nobody sets, in milliseconds */
  look(isFound: boolean, now: number): AlarmChange | undefined {
    if (isFound) this.foundAt = now;
    this.strikes = isFound ? this.strikes + 1 : 0;
    if (!this.begun) return this.strikes >= this.needed ? this.tell('began', now) : undefined;
    if (!isFound && now - this.foundAt >= CALM_MS) return this.tell('ended', now);
    return now - this.toldAt >= REPEAT_MS ? this.tell('lasts', now) : undefined;
  }

  private tell(change: AlarmChange, now: number): AlarmChange {
    this.begun = change !== 'ended';
    this.toldAt = now;
    if (change === 'ended') this.strikes = 0;
    return change;
  }
}
