import type { Backend } from '../backend/backend.js';
import type { Dispose } from '../common/typed-events.js';
import { becomes } from './patience.js';

/** What a backend's bus tells its user, noted. */
export class News {
  readonly heard: {
    channel: string;
    pattern: string | undefined;
    data: Record<string, unknown>;
  }[] = [];
  private readonly detach: Dispose;

  constructor(backend: Backend) {
    this.detach = backend.bus.attach({
      message: (channel, payload, pattern) => {
        const { data } = JSON.parse(payload) as { data: Record<string, unknown> };
        this.heard.push({ channel, pattern, data });
      },
      connected: () => undefined,
      disconnected: () => undefined,
    });
  }

  /** The first message on a channel that is of this type. */
  message(channel: string, type: string): Promise<Record<string, unknown>> {
    return becomes(`a message ${type} on ${channel}`, () =>
      Promise.resolve(
        this.heard.find((one) => one.channel === channel && one.data['type'] === type)?.data,
      ),
    );
  }

  close(): void {
    this.detach();
  }
}
