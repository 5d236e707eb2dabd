import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LARGEST_BYTES = 60_000;

/** What the demo renders. */
export interface Library {
  /** Markdown files of the repository itself: short calls. */
  readonly pages: readonly string[];
  /** The READMEs of what is installed, too: a long call renders many of them. */
  readonly shelf: readonly string[];
}

/** Finds the Markdown files; paths are relative to the checkout. */
export async function findPages(): Promise<Library> {
  const top = await readdir(ROOT);
  const pages = [
    ...top.filter((name) => name.endsWith('.md')),
    ...(await markdownBelow(join(ROOT, 'docs'), true)),
  ];
  const shelf = await markdownBelow(join(ROOT, 'node_modules'), false);
  return { pages, shelf };
}

async function markdownBelow(folder: string, deep: boolean): Promise<string[]> {
  const names = deep
    ? await readdir(folder, { recursive: true }).catch(() => [])
    : (await readdir(folder)).map((name) => join(name, 'README.md'));
  const files = names.filter((name) => name.endsWith('.md')).map((name) => join(folder, name));
  const sizes = await Promise.all(files.map((file) => stat(file).catch(() => undefined)));
  return files
    .filter((_, index) => (sizes[index]?.size ?? Infinity) <= LARGEST_BYTES)
    .map((file) => relative(ROOT, file))
    .sort();
}
