/** A BullMQ worker process with defaults, told what to do by its parent; a job that says so never ends. */
import { Worker } from 'bullmq';

const now = () => Number(process.hrtime.bigint()) / 1e6;
const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) };
const workers = new Map();

async function open(queue) {
  const worker = new Worker(
    queue,
    async (job, _token, signal) => {
      process.send({ type: 'run', id: job.data.id, queue, t: now() });
      if (job.data.ms === Infinity || job.data.ms === null) {
        if (job.attemptsStarted === 1) await new Promise(() => undefined);
      } else await new Promise((resolve) => setTimeout(resolve, job.data.ms, signal));
      return job.data.id;
    },
    { connection, concurrency: 50 },
  );
  worker.on('error', () => undefined);
  workers.set(queue, worker);
  await worker.waitUntilReady();
  process.send({ type: 'open', queue, t: now() });
}

process.on('message', ({ type, queue }) => {
  if (type === 'open') void open(queue);
  else if (type === 'close') {
    void workers
      .get(queue)
      .close()
      .then(() => process.send({ type: 'closed', queue }));
    workers.delete(queue);
  }
});
process.once('SIGTERM', () => {
  void Promise.all([...workers.values()].map((worker) => worker.close())).then(() =>
    process.exit(0),
  );
});
process.send({ type: 'ready' });
