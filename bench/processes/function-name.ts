/** Workflow of all functions of the growth benchmarks. */
export const WORKFLOW = 'bench';

/** Name of the function with that number. */
export function functionName(index: number): string {
  return `work-${index}`;
}
