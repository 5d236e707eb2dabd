import { demoEnvironment } from './environment.js';
import type { ActorEvent, ProcessMessage, NumberedCommand } from './messages.js';
import type { Application } from './application.js';
import { RedisRunLog } from './redis-run-log.js';
import { startApplication } from './start-application.js';

/** How long a process may take to drain when the demo is gone. */
const END_LIMIT_MS = 5_000;

/** Says something to the demo, if there is one. */
function tell(message: ProcessMessage): void {
  if (process.connected) process.send?.(message);
}

/** A process of the demo: the caller, or a worker that drains on SIGTERM. */
async function main(): Promise<void> {
  const environment = demoEnvironment();
  const runs = new RedisRunLog(environment.connection, environment.runsKey);
  const application = await startApplication(environment, runs, (event: ActorEvent) => tell(event));
  process.once('SIGTERM', () => void leave(application));
  // It ends with the demo, however that ends.
  process.once('disconnect', () => {
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => process.exit(1), END_LIMIT_MS).unref();
  });
  process.on('message', (message) => void obey(application, message as NumberedCommand));
}

async function leave(application: Application): Promise<void> {
  await application.close();
  process.exit(0);
}

async function obey(application: Application, { id, command }: NumberedCommand): Promise<void> {
  try {
    tell({ answerTo: id, result: await application.perform(command) });
  } catch (error) {
    tell({ answerTo: id, problem: String(error) });
  }
}

await main();
