import { ServiceBroker } from 'moleculer';
import type { Payload, Peer, PeerSettings } from './peer.js';

const SERVICE = 'bench';
const WAIT_LIMIT_MS = 15_000;

/**
 * Moleculer over its Redis transporter, with what its documentation says costs time turned off: logger,
 * metrics, tracing; no validator rule, no cacher. Not durable.
 */
export const moleculer: Peer = {
  async openWorker(settings) {
    const broker = createBroker(settings, 'worker');
    broker.createService({
      name: SERVICE,
      actions: { echo: (context) => context.params },
    });
    await broker.start();
    return () => broker.stop();
  },

  async openCaller(settings) {
    const broker = createBroker(settings, 'caller');
    await broker.start();
    await broker.waitForServices([SERVICE], WAIT_LIMIT_MS);
    return {
      call: (payload) => broker.call<Payload, Payload>(`${SERVICE}.echo`, payload),
      close: () => broker.stop(),
    };
  },
};

function createBroker({ redisUrl, keyPrefix }: PeerSettings, role: string): ServiceBroker {
  return new ServiceBroker({
    namespace: keyPrefix.replaceAll(':', ''),
    nodeID: `${role}-${process.pid}`,
    transporter: redisUrl,
    logger: false,
    metrics: false,
    tracing: false,
  });
}
