import { Session, type Profiler as Protocol } from 'node:inspector';
import { fileURLToPath } from 'node:url';

/** A function and the part of the process's busy time that was spent in itself, not in what it called. */
export interface SelfTime {
  readonly name: string;
  readonly percent: number;
}

const ROOT = new RegExp(`^(file://)?${fileURLToPath(new URL('../..', import.meta.url))}`);
const TOP = 25;
const NOT_BUSY = new Set(['(idle)', '(program)']);

/** V8's sampling profiler, for this process, between two moments. */
export class Profiler {
  private readonly session = new Session();

  async start(): Promise<void> {
    this.session.connect();
    await this.post('Profiler.enable');
    await this.post('Profiler.start');
  }

  /** The functions with the most self time, and how much of the time the process was busy. */
  async stop(): Promise<{ readonly busyPercent: number; readonly top: readonly SelfTime[] }> {
    const { profile } = await this.post<Protocol.StopReturnType>('Profiler.stop');
    this.session.disconnect();
    return summarize(profile);
  }

  private post<T>(method: string): Promise<T> {
    return new Promise((resolve, reject) =>
      this.session.post(method, (error: Error | null, result?: object) =>
        error === null ? resolve(result as T) : reject(error),
      ),
    );
  }
}

function summarize({ nodes, samples = [], timeDeltas = [] }: Protocol.Profile): {
  busyPercent: number;
  top: SelfTime[];
} {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const times = new Map<string, number>();
  let total = 0;
  for (const [index, id] of samples.entries()) {
    const name = names.get(id) ?? '?';
    const delta = timeDeltas[index] ?? 0;
    total += delta;
    times.set(name, (times.get(name) ?? 0) + delta);
  }
  const busy = [...times].filter(([name]) => !NOT_BUSY.has(name));
  const busyTime = busy.reduce((sum, [, time]) => sum + time, 0);
  const top = busy
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOP)
    .map(([name, time]) => ({ name, percent: (time / busyTime) * 100 }));
  return { busyPercent: (busyTime / total) * 100, top };
}

/** The function with its file, as seen from the checkout. */
function nameOf({
  functionName,
  url,
  lineNumber,
}: Protocol.Profile['nodes'][0]['callFrame']): string {
  const file = url.replace(ROOT, '').replace('node_modules/', '');
  const name = functionName === '' ? 'anonymous' : functionName;
  return file === '' ? name : `${name} (${file}:${lineNumber + 1})`;
}
