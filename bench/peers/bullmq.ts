import { Queue, QueueEvents, Worker, type ConnectionOptions } from 'bullmq';
import type { Payload, Peer } from './peer.js';

const QUEUE = 'echo';
/**
 * What makes it fastest here, of 50, 100, 512 and 1,024: with 512 calls in flight 7.4 k calls/s at 100, 2.5-4 k
 * above.
 */
const CONCURRENCY = 100;
/**
 * Finished jobs that are kept: removed at once, a job may be gone before `waitUntilFinished` looks whether it
 * has finished already, and the wait fails.
 */
const KEPT_JOBS = 1_000;

/**
 * BullMQ's request and reply: `add`, then `waitUntilFinished` on one shared QueueEvents. The worker's
 * `concurrency` is what its documentation raises first, finished jobs are removed as it recommends.
 */
export const bullmq: Peer = {
  async openWorker(settings) {
    const worker = new Worker<Payload, Payload>(QUEUE, (job) => Promise.resolve(job.data), {
      connection: connection(settings.redisUrl),
      prefix: prefix(settings.keyPrefix),
      concurrency: CONCURRENCY,
    });
    await worker.waitUntilReady();
    return () => worker.close();
  },

  async openCaller(settings) {
    const options = {
      connection: connection(settings.redisUrl),
      prefix: prefix(settings.keyPrefix),
    };
    const queue = new Queue<Payload, Payload>(QUEUE, options);
    const events = new QueueEvents(QUEUE, options);
    // Every waiting job listens to an event of its own and to the queue's end.
    events.setMaxListeners(0);
    (queue as unknown as NodeJS.EventEmitter).setMaxListeners(0);
    await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
    return {
      async call(payload) {
        const job = await queue.add('echo', payload, {
          removeOnComplete: { count: KEPT_JOBS },
          removeOnFail: true,
        });
        return job.waitUntilFinished(events);
      },
      async close() {
        await events.close();
        await queue.close();
      },
    };
  },
};

function connection(redisUrl: string): ConnectionOptions {
  const { hostname, port } = new URL(redisUrl);
  return { host: hostname, port: Number(port), maxRetriesPerRequest: null };
}

/** BullMQ puts a colon of its own behind the prefix. */
function prefix(keyPrefix: string): string {
  return keyPrefix.replace(/:$/, '');
}
