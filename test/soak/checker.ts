import { CallRules, figuresOf } from './call-rules.js';
import { CircuitRules } from './circuit-rules.js';
import type { Recorded } from './history.js';
import { MetricsRules } from './metrics-rules.js';
import { Story } from './story.js';
import { WorkflowRules } from './workflow-rules.js';

/** What became of a storm. */
export interface Verdict {
  readonly violations: readonly string[];
  /** What it was made of, by what it is about. */
  readonly figures: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** Checks a history against what the library promises. */
export function checkHistory(history: readonly Recorded[]): Verdict {
  const story = new Story(history);
  const circuits = new CircuitRules(story);
  const workflows = new WorkflowRules(story);
  const metrics = new MetricsRules(story);
  return {
    violations: [
      ...story.oddities,
      ...new CallRules(story).check(),
      ...circuits.check(),
      ...workflows.check(),
      ...metrics.check(),
    ],
    figures: {
      calls: figuresOf(story),
      circuit: circuits.figures(),
      workflow: workflows.figures(),
      metrics: metrics.figures(),
    },
  };
}
