import { EventEmitter, once } from 'node:events';
import { Redis } from '../peers/ioredis.js';
import type { PeerSettings } from '../peers/peer.js';
import { sharedClockMs } from '../stage/shared-clock.js';
import { functionName, WORKFLOW } from './function-name.js';
import { benchSettings, serve } from './serve.js';

const settings = benchSettings<PeerSettings>();
const channel = `${settings.keyPrefix}function:ready:${functionName(0)}:${WORKFLOW}`;
const client = new Redis(settings.redisUrl);
const events = new EventEmitter();
let heardAt = 0;

client.on('message', (_channel: string, message: string) => {
  JSON.parse(message);
  heardAt = sharedClockMs();
  events.emit('heard');
});

const commands = {
  async arm(): Promise<void> {
    heardAt = 0;
    await client.subscribe(channel);
  },
  /** When the message came. It is not subscribed afterwards: the other listener is measured alone. */
  async heard(): Promise<number> {
    if (heardAt === 0) await once(events, 'heard');
    await client.unsubscribe(channel);
    return heardAt;
  },
};

export type BareSubscriberCommands = typeof commands;

/** The floor of readiness: one ioredis subscriber of the ready channel, and nothing else. */
serve(commands, () => {
  client.disconnect();
  return Promise.resolve();
});
