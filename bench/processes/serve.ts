import type { Commands, Message, Question } from '../stage/bench-process.js';

/** What the benchmark gave this process to work with. */
export function benchSettings<T>(): T {
  const text = process.env['BENCH'];
  if (text === undefined) throw new Error('This process is started by npm run bench.');
  return JSON.parse(text) as T;
}

/** Says that the process is up, answers what it is asked, and closes when it, or the benchmark, is to end. */
export function serve(commands: Commands, close: () => Promise<unknown>): void {
  const end = (): void => void close().finally(() => process.exit(0));
  process.once('SIGTERM', end);
  process.once('disconnect', end);
  process.on('message', (message) => void answer(commands, message as Question));
  tell({ kind: 'up' });
}

async function answer(commands: Commands, { id, command, argument }: Question): Promise<void> {
  try {
    const perform = commands[command] as ((argument: unknown) => unknown) | undefined;
    if (perform === undefined) throw new Error(`there is no command ${command}`);
    tell({ kind: 'answer', id, result: await perform(argument) });
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    tell({ kind: 'failure', id, text });
  }
}

function tell(message: Message): void {
  if (process.connected) process.send?.(message);
}
