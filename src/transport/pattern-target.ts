import { isRecord } from '../protocol/json.js';

/** The function that a Nest message pattern means. */
export interface PatternTarget {
  readonly functionName: string;
  /** Absent: the module's `workflowId`. */
  readonly workflowId: string | undefined;
}

/**
 * The function behind a pattern: `{ functionName, workflowId? }` names it, a string is a name in the
 * module's workflow, and any other object is a name too, by Nest's own spelling of it.
 */
export function targetOf(pattern: unknown, route: string): PatternTarget {
  const value = typeof pattern === 'string' ? parsed(pattern) : pattern;
  if (isRecord(value) && typeof value['functionName'] === 'string') {
    const workflowId = value['workflowId'];
    return {
      functionName: value['functionName'],
      workflowId: typeof workflowId === 'string' ? workflowId : undefined,
    };
  }
  return { functionName: route, workflowId: undefined };
}

function parsed(text: string): unknown {
  if (!text.startsWith('{')) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Whether an event pattern is a glob and needs a pattern subscription. */
export function isGlob(pattern: string): boolean {
  return !pattern.startsWith('{') && /[*?[]/.test(pattern);
}
