import { within, type Clock } from '../common/clock.js';
import type { Dispose } from '../common/typed-events.js';
import type { Backend } from './backend.js';

/** Whether commands can be sent: waits for a connection that is down, `ms` at the most. */
export async function reachable(backend: Backend, clock: Clock, ms: number): Promise<boolean> {
  if (backend.isConnected()) return true;
  let dispose: Dispose = () => undefined;
  const connected = new Promise<boolean>((resolve) => {
    dispose = backend.onConnected(() => resolve(true));
  });
  try {
    return await within(clock, ms, connected, () => new Error('not connected'));
  } catch {
    return false;
  } finally {
    dispose();
  }
}
