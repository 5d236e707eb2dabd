import type { Count, HistoryLog } from './history.js';
import { STORM } from './plan.js';

const EVERY_MS = 1_000;
const LINE =
  /^nestjs_functions_(calls_total|run_duration_seconds_count)\{function="([^"]+)",workflow="[^"]+"\} (\d+)$/gm;

/** A process that serves its metrics, when there is one. */
export interface Scraped {
  readonly who: string;
  readonly port: number;
}

/** Scrapes a worker of the storm once a second, as Prometheus does. */
export class Scraper {
  private going = true;
  private done: Promise<void> = Promise.resolve();

  constructor(
    private readonly history: HistoryLog,
    private readonly target: () => Scraped | undefined,
  ) {}

  start(): void {
    this.done = this.loop();
  }

  async stop(): Promise<void> {
    this.going = false;
    await this.done;
  }

  private async loop(): Promise<void> {
    while (this.going) {
      const target = this.target();
      if (target !== undefined) await this.scrape(target);
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  private async scrape({ who, port }: Scraped): Promise<void> {
    const from = Date.now();
    let text: string;
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`, {
        signal: AbortSignal.timeout(STORM.scrapeTimeoutMs),
      });
      text = await answer.text();
    } catch {
      // It is frozen, was killed, or is being replaced.
      return;
    }
    const counts = readCounts(text, who, Date.now());
    this.history.note({ e: 'measured', via: 'scrape', tookMs: Date.now() - from, counts });
  }
}

/** Reads what Prometheus would, of a process that has counted since it began. */
export function readCounts(text: string, process: string, at: number): Count[] {
  const counts = new Map<string, { calls: number; runs: number }>();
  for (const [, name, fn = '', value] of text.matchAll(LINE)) {
    const count = counts.get(fn) ?? { calls: 0, runs: 0 };
    counts.set(fn, count);
    count[name === 'calls_total' ? 'calls' : 'runs'] = Number(value);
  }
  return [...counts]
    .filter(([fn]) => !fn.startsWith('bell-'))
    .map(([fn, { calls, runs }]) => ({ fn, process, since: 0, at, calls, runs }));
}
