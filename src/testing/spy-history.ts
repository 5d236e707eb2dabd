import { messageOf } from '../common/text.js';
import type { SpyRecord } from './spy-events.js';

const SHOWN = 30;
const MAX_JSON_LENGTH = 120;

/** What happened, a line each, the latest last. */
export function describeHistory(records: readonly SpyRecord[]): string {
  if (records.length === 0) return 'Nothing happened.';
  const shown = records.slice(-SHOWN);
  const left = records.length - shown.length;
  const start = records[0]?.at ?? 0;
  const lines = shown.map((record) => `  +${record.at - start} ms  ${describe(record)}`);
  return `What happened${left === 0 ? '' : `, after ${left} earlier`}:\n${lines.join('\n')}`;
}

function describe(record: SpyRecord): string {
  const { functionName, workflowId } = record.event;
  return `${record.name} ${functionName} (workflow ${workflowId})${factsOf(record)}`;
}

function factsOf({ name, event }: SpyRecord): string {
  switch (name) {
    case 'ready':
      return ` by ${event.workerId}`;
    case 'shutdown':
      return ` by ${event.workerId}`;
    case 'offline':
      return ` of ${event.workerId}: ${event.reason}`;
    case 'health':
      return ` of ${event.workerId}: ${event.healthy ? 'healthy' : `unhealthy, ${event.reason ?? ''}`}`;
    case 'waiting':
      return ' for a worker';
    case 'called':
      return ` with ${json(event.parameters)}`;
    case 'started':
      return ` on ${event.workerId}, attempt ${event.attempt}`;
    case 'failed':
      return ` on ${event.workerId}, attempt ${event.attempt}: ${messageOf(event.error)}`;
    case 'settled':
      return event.success
        ? ` with ${json(event.data)}`
        : ` with ${event.error.code}: ${event.error.message}`;
    case 'deadLettered':
      return `: ${event.reason}`;
  }
}

function json(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  return text.length <= MAX_JSON_LENGTH ? text : `${text.slice(0, MAX_JSON_LENGTH)}…`;
}
