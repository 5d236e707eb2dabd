/** A table for the terminal: the first column to the left, the others to the right. */
export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** What the figures mean, one line each. */
  readonly notes?: readonly string[];
}

/** The table as text, without a line break at its end. */
export function renderTable({ title, head, rows, notes = [] }: Table): string {
  const widths = head.map((cell, column) =>
    Math.max(cell.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    widths
      .map((width, column) => {
        const cell = cells[column] ?? '';
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  return [title, line(head), rule, ...rows.map(line), ...notes.map((note) => `  ${note}`)].join(
    '\n',
  );
}

/** A figure with three significant digits, thousands separated by a space; `-` when there is none. */
export function figure(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '-';
  if (Math.abs(value) >= 100) return separated(Math.round(value));
  return String(Number(value.toPrecision(3)));
}

/** A ratio, as `1.52 x`. */
export function times(value: number | undefined): string {
  return value === undefined || Number.isNaN(value) ? '-' : `${value.toFixed(2)} x`;
}

function separated(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ' ');
}
