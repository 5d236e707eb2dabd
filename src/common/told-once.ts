/** Says a problem that is met again and again once, for as long as it is the same. */
export class ToldOnce {
  private readonly told = new Map<string, string>();

  constructor(private readonly say: (text: string) => void) {}

  /** @param subject what has the problem, one at a time */
  tell(subject: string, text: string): void {
    if (this.told.get(subject) === text) return;
    this.told.set(subject, text);
    this.say(text);
  }

  /** It is over: the next problem of that subject is said again. `false` when there was none. */
  end(subject: string): boolean {
    return this.told.delete(subject);
  }
}
