import { parseCircuitNotification } from '../protocol/circuit.js';
import type { Keys } from '../protocol/keys.js';
import {
  isMalformed,
  parseNotification,
  parsePacket,
  type Malformed,
} from '../protocol/notification.js';
import { parseWorkflowNotification } from '../protocol/workflow-notification.js';

/** Makes of a message what its listeners get. */
export type PacketReader = (payload: string) => { readonly data: unknown } | Malformed;

/** How a channel's messages are read: of the library's own channels the checked news, else the data of the packet. */
export function packetReader(keys: Keys, channel: string): PacketReader {
  const address = keys.parseChannel(channel);
  if (address !== undefined) return (payload) => checked(parseNotification(address, payload));
  const circuit = keys.parseCircuitChannel(channel);
  if (circuit !== undefined)
    return (payload) => checked(parseCircuitNotification(circuit, payload));
  const workflow = keys.parseWorkflowChannel(channel);
  if (workflow !== undefined)
    return (payload) => checked(parseWorkflowNotification(workflow, payload));
  return parsePacket;
}

function checked(news: object | Malformed): { readonly data: unknown } | Malformed {
  return isMalformed(news) ? news : { data: news };
}
