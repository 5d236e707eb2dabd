import { Redis } from './ioredis.js';
import { OpenCalls } from './open-calls.js';
import type { Payload, Peer } from './peer.js';
import { TickBatch } from './tick-batch.js';

interface Message {
  readonly channel: string;
  readonly text: string;
}

/**
 * A floor: request and reply over pub/sub with nothing but ioredis. A message is `id replyTo payload`, those
 * of a tick leave in one pipeline, and the payload is JSON that both sides read, as for everybody else.
 */
export const floorPubsub: Peer = {
  async openWorker({ redisUrl, keyPrefix }) {
    const publisher = new Redis(redisUrl);
    const subscriber = new Redis(redisUrl);
    const replies = publishTogether(publisher);
    subscriber.on('message', (_channel: string, message: string) => {
      const [id, replyTo, text] = cut(message);
      const payload = JSON.parse(text) as Payload;
      replies.add({ channel: replyTo, text: `${id}  ${JSON.stringify(payload)}` });
    });
    await subscriber.subscribe(`${keyPrefix}requests`);
    return () => end(publisher, subscriber);
  },

  async openCaller({ redisUrl, keyPrefix }) {
    const publisher = new Redis(redisUrl);
    const subscriber = new Redis(redisUrl);
    const requests = publishTogether(publisher);
    const calls = new OpenCalls();
    const replyTo = `${keyPrefix}replies:${process.pid}`;
    subscriber.on('message', (_channel: string, message: string) => {
      const [id, , text] = cut(message);
      calls.settle(id, text);
    });
    await subscriber.subscribe(replyTo);
    return {
      call: (payload) =>
        calls.start((id) => {
          const text = `${id} ${replyTo} ${JSON.stringify(payload)}`;
          requests.add({ channel: `${keyPrefix}requests`, text });
        }),
      close: () => end(publisher, subscriber),
    };
  },
};

function publishTogether(client: Redis): TickBatch<Message> {
  return new TickBatch((messages) => {
    const pipeline = client.pipeline();
    for (const { channel, text } of messages) pipeline.publish(channel, text);
    void pipeline.exec();
  });
}

/** The id, where to reply, and the payload's JSON. */
function cut(message: string): [id: string, replyTo: string, text: string] {
  const first = message.indexOf(' ');
  const second = message.indexOf(' ', first + 1);
  return [message.slice(0, first), message.slice(first + 1, second), message.slice(second + 1)];
}

function end(...clients: Redis[]): Promise<void> {
  for (const client of clients) client.disconnect();
  return Promise.resolve();
}
