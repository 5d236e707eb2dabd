import type { Payload } from './peer.js';

/** The calls of a floor that nobody answered yet, by number. */
export class OpenCalls {
  private readonly open = new Map<string, (payload: Payload) => void>();
  private last = 0;

  /** Opens a call: `send` gets its number. */
  start(send: (id: string) => void): Promise<Payload> {
    const id = String((this.last += 1));
    return new Promise((resolve) => {
      this.open.set(id, resolve);
      send(id);
    });
  }

  settle(id: string, text: string): void {
    const resolve = this.open.get(id);
    this.open.delete(id);
    resolve?.(JSON.parse(text) as Payload);
  }
}
