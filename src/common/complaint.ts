/** Says of what is tried again and again why it fails: once for as long as it fails for the same reason. */
export class Complaint {
  private said = '';

  constructor(private readonly say: (text: string) => void) {}

  tell(text: string): void {
    if (text === this.said) return;
    this.said = text;
    this.say(text);
  }

  /** It works: the next failure is news. Whether there was one. */
  settle(): boolean {
    const hadOne = this.said !== '';
    this.said = '';
    return hadOne;
  }
}
