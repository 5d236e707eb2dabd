import { isRecord } from './json.js';
import { MAX_NOTIFICATION_LENGTH, parsePacket, type Malformed } from './notification.js';
import { isGeneration, type WorkflowAddress, type WorkflowNotification } from './workflow-event.js';

/** Reads news about a workflow, checked against the channel that it came on. */
export function parseWorkflowNotification(
  address: WorkflowAddress,
  text: string,
): WorkflowNotification | Malformed {
  if (text.length > MAX_NOTIFICATION_LENGTH) {
    return {
      malformed: `it has ${text.length} characters, ${MAX_NOTIFICATION_LENGTH} at most are allowed`,
    };
  }
  const packet = parsePacket(text);
  if ('malformed' in packet) return packet;
  const { data } = packet;
  if (!isRecord(data)) return { malformed: 'its data is not an object' };
  if (data['type'] !== address.type) return { malformed: `its type is not ${address.type}` };
  if (data['workflowId'] !== address.workflowId)
    return { malformed: 'it names another workflow than its channel' };
  for (const field of ['generation', 'timestamp'])
    if (!isGeneration(data[field])) return { malformed: `${field} is not a number` };
  return { ...(data as unknown as WorkflowNotification), details: data['details'] ?? null };
}
