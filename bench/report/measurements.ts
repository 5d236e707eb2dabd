import { median, spread } from './statistics.js';

/** Everything that a run measured: per metric its figures, one or some a round. The unit stands in the metric's name. */
export class Measurements {
  private readonly figures = new Map<string, number[]>();
  private readonly reasons = new Map<string, string>();

  add(metric: string, value: number): void {
    const values = this.figures.get(metric);
    if (values === undefined) this.figures.set(metric, [value]);
    else values.push(value);
  }

  /** Says why a metric has no figures. */
  skip(metric: string, reason: string): void {
    this.reasons.set(metric, reason);
  }

  values(metric: string): readonly number[] {
    return this.figures.get(metric) ?? [];
  }

  /** The median of the rounds; `undefined` when nothing was measured. */
  median(metric: string): number | undefined {
    const values = this.values(metric);
    return values.length === 0 ? undefined : median(values);
  }

  /** The median of one metric divided by that of another; `undefined` when one is missing. */
  ratio(of: string, to: string): number | undefined {
    const [above, below] = [this.median(of), this.median(to)];
    return above === undefined || below === undefined ? undefined : above / below;
  }

  /** How far its rounds lie apart; `undefined` when nothing was measured. */
  spread(metric: string): number | undefined {
    const values = this.values(metric);
    return values.length === 0 ? undefined : spread(values);
  }

  /** Metrics that were measured and begin with this, most first. */
  startingWith(start: string): string[] {
    return [...this.figures.keys()]
      .filter((metric) => metric.startsWith(start))
      .sort((a, b) => (this.median(b) ?? 0) - (this.median(a) ?? 0));
  }

  /** Why a metric was not measured. */
  reason(metric: string): string {
    return this.reasons.get(metric) ?? 'it has no figure';
  }

  toJSON(): Record<string, { readonly median?: number; readonly rounds: readonly number[] }> {
    const metrics = [...new Set([...this.figures.keys(), ...this.reasons.keys()])].sort();
    return Object.fromEntries(
      metrics.map((metric) => {
        const value = this.median(metric);
        const rounds = this.values(metric);
        return [
          metric,
          value === undefined
            ? { rounds, notMeasured: this.reason(metric) }
            : { median: value, rounds },
        ];
      }),
    );
  }
}
