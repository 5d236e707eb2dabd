import { pause, within, type Clock } from '../common/clock.js';
import { isFunctionsError } from '../common/errors.js';
import type { Dispose } from '../common/typed-events.js';
import type { Backend } from './backend.js';

/**
 * Each step of a leave waits this long for Redis to come back, or to answer. What cannot be handed back then is handed
 * over: who is left finds out by presence and lease.
 */
export const LEAVE_WAIT_MS = 1_000;
const RETRY_MS = 20;

/**
 * Whether commands are answered: waits for a connection that is down, and for a server that stands still, `ms` at the
 * most. A command by itself would wait longer; who has many to send, one after the other, asks this first.
 *
 * Interleaving: the connection breaks before the answer: the next one is waited for.
 */
export async function reachable(backend: Backend, clock: Clock, ms: number): Promise<boolean> {
  let over = false;
  let dispose: Dispose = () => undefined;
  const connected = (): Promise<void> =>
    new Promise((resolve) => {
      dispose();
      dispose = backend.onConnected(() => resolve());
    });
  const answered = async (): Promise<void> => {
    while (!over) {
      if (!backend.isConnected()) await connected();
      try {
        return await backend.ping();
      } catch (error) {
        if (isFunctionsError(error, 'CLOSED')) throw error;
        // Whatever else it says, it answers.
        if (!isFunctionsError(error, 'BACKEND_UNAVAILABLE')) return;
        await pause(clock, RETRY_MS);
      }
    }
  };
  try {
    await within(clock, ms, answered(), () => new Error('not reachable'));
    return true;
  } catch {
    return false;
  } finally {
    over = true;
    dispose();
  }
}
