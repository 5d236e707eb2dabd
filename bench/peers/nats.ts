import { connect, type NatsConnection } from '@nats-io/transport-node';
import type { Payload, Peer, PeerSettings } from './peer.js';

const SUBJECT = 'echo';
const TIMEOUT_MS = 60_000;

/**
 * NATS core request and reply: the client's multiplexed request (its default) and a subscription with a
 * callback, which its documentation prefers to the iterator for speed. Not durable.
 */
export const nats: Peer = {
  async openWorker(settings) {
    const connection = await open(settings);
    connection.subscribe(SUBJECT, {
      callback: (error, message) => {
        if (error !== null) throw error;
        message.respond(JSON.stringify(message.json<Payload>()));
      },
    });
    await connection.flush();
    return () => connection.drain();
  },

  async openCaller(settings) {
    const connection = await open(settings);
    return {
      async call(payload) {
        const text = JSON.stringify(payload);
        const reply = await connection.request(SUBJECT, text, { timeout: TIMEOUT_MS });
        return reply.json<Payload>();
      },
      close: () => connection.close(),
    };
  },
};

function open({ natsUrl }: PeerSettings): Promise<NatsConnection> {
  if (natsUrl === undefined) throw new Error('there is no nats-server');
  return connect({ servers: natsUrl });
}
