import { CALL_FIELDS } from '../../protocol/call.js';
import { decodeJson } from '../../protocol/json.js';
import type { Concluded, Outcome } from '../call-streams.js';
import { MAX_ASIDE } from '../limits.js';
import type { QueuedCall } from './call-queue.js';
import { CallFields } from './call-fields.js';
import type { MemoryFunction } from './memory-function.js';
import { sharedKey, type MemorySpace } from './memory-space.js';
import { tell, tellProgress } from './tell.js';

/** Carries outcomes out, in their order. One whose call is gone changes nothing. */
export function conclude(
  space: MemorySpace,
  outcomes: readonly Outcome[],
  consumer: string,
  warn: (text: string) => void,
): Concluded {
  const lost: number[] = [];
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.kind === 'progress') sayProgress(space, outcome);
    else if (!carryOut(space, outcome, consumer, warn)) lost.push(index);
  }
  return { lost, again: [], why: '' };
}

/** Whether the call was still there: it is taken away, and comes back under another id, whenever it is handed over. */
function carryOut(
  space: MemorySpace,
  outcome: Outcome,
  consumer: string,
  warn: (text: string) => void,
): boolean {
  const fn = space.find(outcome.ref);
  const call = fn?.queue.get(outcome.entryId);
  if (fn === undefined || call === undefined) return false;
  fn.queue.pass(call, consumer);
  switch (outcome.kind) {
    case 'retry':
      if (postpone(space, fn, call, outcome)) return true;
      warn(`${fn.label} has ${MAX_ASIDE} calls that wait for another attempt: no more are kept`);
      bury(space, fn, call, outcome);
      return true;
    case 'bury':
      bury(space, fn, call, outcome);
      return true;
    case 'answer':
      answer(space, fn, outcome);
      return true;
    default:
      answer(space, fn, outcome);
      fn.queue.remove(outcome.entryId);
      return true;
  }
}

function sayProgress(space: MemorySpace, outcome: Outcome): void {
  const fn = space.find(outcome.ref);
  if (fn === undefined) return;
  tellProgress(space, fn, { ...outcome, key: outcome.once?.key }, outcome.reply);
}

function answer(space: MemorySpace, fn: MemoryFunction, outcome: Outcome): void {
  const { once, reply } = outcome;
  if (reply === '') return;
  tell(space, fn, { ...outcome, key: once?.key }, reply);
  if (once === undefined) return;
  const name = sharedKey(fn.ref, once.key);
  space.shared.delete(name);
  // A failure is told to who waits and then forgotten: the next call with this key runs.
  if (!reply.startsWith('{"k":"r"')) return;
  const kept = { entryId: undefined, callId: outcome.callId, sharers: new Map(), reply };
  space.shared.set(name, kept, once.keepMs);
}

/** Puts a call aside until it is due; `false` when too many are. */
function postpone(
  space: MemorySpace,
  fn: MemoryFunction,
  call: QueuedCall,
  { delayMs = 0, failure = '{}' }: Outcome,
): boolean {
  if (fn.aside.size >= MAX_ASIDE) return false;
  const entry = new CallFields(call.id, call.fields);
  entry.set(CALL_FIELDS.attempt, entry.count(CALL_FIELDS.attempt, 1) + 1);
  entry.set(CALL_FIELDS.failures, entry.count(CALL_FIELDS.failures, 0) + 1);
  entry.keepOrigin();
  entry.note(decodeJson(failure));
  const dueAt = space.now() + Math.ceil(delayMs);
  fn.aside.add({ id: call.id, dueAt, fields: entry.flat() });
  space.noteDelayed(fn);
  fn.queue.remove(call.id);
  return true;
}

/** Gives a call up whose handler failed for the last time: to the dead letters, and its caller is told. */
function bury(
  space: MemorySpace,
  fn: MemoryFunction,
  call: QueuedCall,
  { reply, failure = '{}' }: Outcome,
): void {
  const entry = new CallFields(call.id, call.fields);
  entry.keepOrigin();
  entry.note(decodeJson(failure));
  entry.set('reason', 'RETRIES_EXHAUSTED');
  const { addressee } = entry;
  tell(space, fn, addressee, reply);
  space.bury(fn, entry.flat());
  fn.queue.remove(call.id);
  if (addressee.key !== undefined) space.shared.delete(sharedKey(fn.ref, addressee.key));
}
