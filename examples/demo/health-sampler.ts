import { Agent, get } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

const EVERY_MS = 25;

/** `200`, `503`, or `none` when nobody listened; and the reason the body gives. */
export interface HealthSample {
  readonly code: string;
  readonly reason: string;
}

/** How often each answer was given. */
export type HealthCounts = ReadonlyMap<
  string,
  { readonly count: number; readonly reasons: string[] }
>;

/** Asks one process for /health/ready again and again, as Kubernetes does, only more often. */
export class HealthSampler {
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 1 });
  private readonly counted = new Map<string, { count: number; reasons: string[] }>();
  private last: HealthSample | undefined;
  private running: Promise<void> | undefined;
  private stopped = false;

  constructor(
    private readonly port: number,
    private readonly changed: (sample: HealthSample) => void,
  ) {}

  start(): void {
    this.running ??= this.run();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.running;
    this.agent.destroy();
  }

  get samples(): number {
    return [...this.counted.values()].reduce((sum, { count }) => sum + count, 0);
  }

  counts(): HealthCounts {
    return this.counted;
  }

  private async run(): Promise<void> {
    while (!this.stopped) {
      this.note(await this.sample());
      await pause(EVERY_MS);
    }
  }

  private note(sample: HealthSample): void {
    const known = this.counted.get(sample.code) ?? { count: 0, reasons: [] };
    known.count += 1;
    if (sample.reason !== '' && !known.reasons.includes(sample.reason))
      known.reasons.push(sample.reason);
    this.counted.set(sample.code, known);
    const { last } = this;
    this.last = sample;
    if (last?.code !== sample.code || last.reason !== sample.reason) this.changed(sample);
  }

  private sample(): Promise<HealthSample> {
    return new Promise((resolve) => {
      const nobody = (): void => resolve({ code: 'none', reason: 'nobody listens' });
      const request = get(
        { host: '127.0.0.1', port: this.port, path: '/health/ready', agent: this.agent },
        (response) => {
          let body = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
          response.on('error', nobody);
          response.on('end', () =>
            resolve({ code: String(response.statusCode), reason: reasonIn(body) }),
          );
        },
      );
      request.setTimeout(2_000, () => request.destroy());
      request.on('error', nobody);
    });
  }
}

/** Terminus puts what is down under `error`. */
function reasonIn(body: string): string {
  const { error } = JSON.parse(body) as { error?: Record<string, { message?: string }> };
  return Object.values(error ?? {})[0]?.message ?? '';
}
