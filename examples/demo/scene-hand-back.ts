import { aftermath, callsOf, checksOf, occupy, rowsOf, tellWhatFollows } from './long-calls.js';
import { now } from './messages.js';
import type { SceneResult, Stage } from './stage.js';
import type { Row } from './timeline.js';

/** Far less than its calls take. */
const DRAIN_LIMIT_MS = 100;

const NOT_SHOWN: Row = [
  '(c) killed worker',
  ...['-', '-', '-', '-', '-'],
  'not shown: takes processes (--backend redis)',
];

/**
 * (c) without processes: nobody can be killed, so a worker is told to go that cannot finish in time. Its calls are
 * handed over as those of a dead one are; that its death is noticed is not shown.
 */
export async function handBackScene(stage: Stage): Promise<SceneResult> {
  const { timeline, guestName } = stage;
  timeline.heading(
    '(c) Not shown here: a worker that is killed. Instead: one that runs out of time',
  );
  const ready = stage.news(guestName, 'ready');
  const worker = stage.startWorker(guestName, DRAIN_LIMIT_MS);
  await ready;
  timeline.event(guestName, `ready; when told to go it gives its calls ${DRAIN_LIMIT_MS} ms`);
  const { calls } = await occupy(stage, [guestName]);
  const hit = callsOf(calls, guestName);
  const offline = stage.news(guestName, 'offline');
  const toldAt = now();
  const how = worker.dismiss();
  timeline.event(guestName, `${how} while it runs ${hit.map(({ call }) => call).join(', ')}`);
  tellWhatFollows(stage, hit, toldAt, 'it was told to go');
  const { reason } = await offline;
  timeline.event('caller', `hears: ${guestName} offline (${reason})`);
  const after = await aftermath(stage, calls, guestName, toldAt);
  return {
    rows: [NOT_SHOWN, ...rowsOf(after, 'instead: out of time', 'told to go')],
    checks: checksOf(after, 'the leaving worker’s'),
  };
}
