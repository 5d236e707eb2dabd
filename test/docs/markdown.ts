import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A path of the checkout. */
export const rootPath = (path: string): string =>
  fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** A text file of the checkout. */
export const readText = (path: string): string => readFileSync(rootPath(path), 'utf8');

/** Files below a folder of the checkout, relative to the checkout. */
export function filesBelow(folder: string, ending: RegExp): string[] {
  return readdirSync(rootPath(folder), { recursive: true, encoding: 'utf8' })
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter((path) => ending.test(path))
    .sort();
}

/** Rows of all tables whose first column has this title: column title to cell. */
export function tableRows(text: string, firstColumn: string): Record<string, string>[] {
  const rows: Record<string, string>[] = [];
  let titles: string[] | undefined;
  for (const line of text.split('\n')) {
    if (!line.startsWith('|')) {
      titles = undefined;
      continue;
    }
    const cells = line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim());
    if (titles === undefined) titles = cells;
    else if (titles[0] === firstColumn && !/^-+$/.test(cells[0] ?? '')) {
      const known = titles;
      rows.push(Object.fromEntries(cells.map((cell, index) => [known[index] ?? '', cell])));
    }
  }
  return rows;
}

/** A cell without its backticks. */
export const bare = (cell: string | undefined): string => (cell ?? '').replaceAll('`', '');

/** Targets of all links of a text, code left out. */
export function linksOf(text: string): string[] {
  const prose = text.replace(/```[^]*?```/g, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target ?? '');
}

/** The anchors that a text's headings make. */
export function anchorsOf(text: string): string[] {
  return [...text.replace(/```[^]*?```/g, '').matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    (heading ?? '')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/ /g, '-'),
  );
}
