/** Keys of a script, each once; arguments name them by their number. */
export class ScriptKeys {
  readonly all: string[] = [];
  private readonly indexes = new Map<string, number>();

  of(key: string): number {
    let index = this.indexes.get(key);
    if (index === undefined) this.indexes.set(key, (index = this.all.push(key)));
    return index;
  }
}
