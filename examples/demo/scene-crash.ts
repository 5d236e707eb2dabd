import type { Actor } from './actor.js';
import { aftermath, callsOf, checksOf, occupy, rowsOf, tellWhatFollows } from './long-calls.js';
import { now } from './messages.js';
import type { SceneResult, Stage } from './stage.js';
import { ms } from './timeline.js';

/** (c) A worker is killed in mid-call. Some of its calls may run again, the others must not. */
export async function crashScene(
  stage: Stage,
  workers: ReadonlyMap<string, Actor>,
): Promise<SceneResult> {
  stage.timeline.heading('(c) A worker is killed in mid-call (SIGKILL)');
  const { calls, victim } = await occupy(stage, stage.workerNames);
  const worker = workers.get(victim);
  if (worker?.kill === undefined) throw new Error(`${victim} cannot be killed`);
  const hit = callsOf(calls, victim);
  const offline = stage.news(victim, 'offline');
  const killedAt = now();
  worker.kill();
  const numbers = hit.map(({ call }) => call).join(', ');
  stage.timeline.event(victim, `SIGKILL to ${worker.whereabouts} while it runs ${numbers}`);
  tellWhatFollows(stage, hit, killedAt, 'the death');
  const { reason } = await offline;
  stage.timeline.event(
    'caller',
    `hears: ${victim} offline (${reason}), ${ms(now() - killedAt)} after its death`,
  );
  const after = await aftermath(stage, calls, victim, killedAt);
  return {
    rows: rowsOf(after, 'killed worker', 'death'),
    checks: checksOf(after, 'the killed worker’s'),
  };
}
