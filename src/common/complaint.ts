/** Says of what is tried again and again why it fails: once for as long as it fails for the same reason. */
export class Complaint {
  private readonly said = new Map<string, string>();

  constructor(private readonly say: (text: string) => void) {}

  /** @param subject what fails, where there are several */
  tell(text: string, subject = ''): void {
    if (this.said.get(subject) === text) return;
    this.said.set(subject, text);
    this.say(text);
  }

  /** It works: its next failure is news. Whether there was one. */
  settle(subject = ''): boolean {
    return this.said.delete(subject);
  }
}
