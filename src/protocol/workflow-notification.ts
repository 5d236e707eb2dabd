import { parseNews, type Malformed } from './notification.js';
import { isGeneration, type WorkflowAddress, type WorkflowNotification } from './workflow-event.js';

/** Reads news about a workflow, checked against the channel that it came on. */
export function parseWorkflowNotification(
  address: WorkflowAddress,
  text: string,
): WorkflowNotification | Malformed {
  const news = parseNews(text);
  if ('malformed' in news) return news;
  const { data } = news;
  if (data['type'] !== address.type) return { malformed: `its type is not ${address.type}` };
  if (data['workflowId'] !== address.workflowId)
    return { malformed: 'it names another workflow than its channel' };
  for (const field of ['generation', 'timestamp'])
    if (!isGeneration(data[field])) return { malformed: `${field} is not a number` };
  return { ...(data as unknown as WorkflowNotification), details: data['details'] ?? null };
}
