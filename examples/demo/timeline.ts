/** A row of the table at the end. */
export type Row = readonly string[];

const WHO_WIDTH = 9;
const TIME_WIDTH = 7;
const LINE_WIDTH = 100;

const INDENT = TIME_WIDTH + WHO_WIDTH + 3;

const bold = (text: string): string => paint(1, text);
const dim = (text: string): string => paint(2, text);
const red = (text: string): string => paint(31, text);
const green = (text: string): string => paint(32, text);

function paint(code: number, text: string): string {
  const colours = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
  return colours ? `\u001b[${code}m${text}\u001b[0m` : text;
}

/** Prints what happened, when, and to whom: times are milliseconds since the demo's start. */
export class Timeline {
  private readonly startedAt = performance.now();

  heading(text: string): void {
    console.log(`\n${bold(text)}`);
    console.log(dim(`${'ms'.padStart(TIME_WIDTH)}  ${'who'.padEnd(WHO_WIDTH)} what`));
  }

  event(who: string, what: string): void {
    const at = Math.round(performance.now() - this.startedAt);
    const [first = '', ...others] = wrap(what, LINE_WIDTH - INDENT);
    console.log(`${dim(String(at).padStart(TIME_WIDTH))}  ${who.padEnd(WHO_WIDTH)} ${first}`);
    for (const line of others) console.log(`${' '.repeat(INDENT)}${line}`);
  }

  /** First column to the left, the others to the right, the last (a remark) to the left. */
  table(heading: Row, rows: readonly Row[]): void {
    const all = [heading, ...rows];
    const widths = heading.map((_, column) =>
      Math.max(...all.map((row) => (row[column] ?? '').length)),
    );
    const last = heading.length - 1;
    const lineOf = (row: Row): string =>
      row
        .map((cell, column) => {
          const width = widths[column] ?? 0;
          return column === 0 ? cell.padEnd(width) : column === last ? cell : cell.padStart(width);
        })
        .join('  ')
        .trimEnd();
    console.log(`\n${bold(lineOf(heading))}`);
    console.log(dim('-'.repeat(Math.min(100, Math.max(...all.map((row) => lineOf(row).length))))));
    for (const row of rows) console.log(lineOf(row));
  }

  verdict(what: string, holds: boolean): void {
    console.log(`${holds ? green('  ok  ') : red('FAILED')}  ${what}`);
  }

  line(text: string): void {
    console.log(text);
  }
}

/** Breaks a text between words. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line === undefined || line.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines;
}

/** Milliseconds for people: `4.2 ms`. */
export function ms(value: number): string {
  return `${value.toFixed(value < 100 ? 1 : 0)} ms`;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

export function max(values: readonly number[]): number {
  return values.length === 0 ? NaN : Math.max(...values);
}
