import type { MemoryServer, ServerObserver } from '../backend/memory/memory-server.js';
import type { Dispose } from '../common/typed-events.js';
import { parseDeadLetter } from '../protocol/dead-letter.js';
import { Keys } from '../protocol/keys.js';
import { isMalformed, parseNotification } from '../protocol/notification.js';
import type { FunctionsSpy } from './functions-spy.js';

/** Tells a spy what a memory server is told under a key prefix: news of workers, and calls that are given up. */
export function watchServer(server: MemoryServer, keyPrefix: string, spy: FunctionsSpy): Dispose {
  const keys = new Keys(keyPrefix);
  const observer: ServerObserver = {
    published(channel, payload) {
      const address = keys.parseChannel(channel);
      if (address === undefined) return;
      const news = parseNotification(address, payload);
      if (!isMalformed(news)) spy.note(news.type, news);
    },
    buried(prefix, { functionName, workflowId }, { id, fields }) {
      if (prefix !== keyPrefix) return;
      spy.note('deadLettered', { functionName, workflowId, ...parseDeadLetter(id, fields) });
    },
  };
  return server.observe(observer);
}
