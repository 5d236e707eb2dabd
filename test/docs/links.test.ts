import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { anchorsOf, filesBelow, linksOf, readText, rootPath } from './markdown.js';

const pages = [
  ...filesBelow('docs', /\.md$/),
  ...['README.md', 'CHANGELOG.md'].filter((path) => existsSync(rootPath(path))),
];
const links = pages.flatMap((page) =>
  linksOf(readText(page))
    .filter((target) => !/^[a-z]+:/i.test(target))
    .map((target) => ({ page, target })),
);

describe('the pages', () => {
  it('are there', () => {
    expect(pages).toEqual(
      expect.arrayContaining([
        'docs/architecture.md',
        'docs/errors.md',
        'docs/guarantees.md',
        'docs/options.md',
        'docs/security.md',
        'docs/testing.md',
      ]),
    );
  });

  it.each(links)('link to what exists: $target of $page', ({ page, target }) => {
    const [path = '', anchor] = target.split('#');
    const file = path === '' ? page : join(dirname(page), path);
    expect({ file, exists: existsSync(rootPath(file)) }).toEqual({ file, exists: true });
    const anchors = anchor === undefined ? [anchor] : anchorsOf(readText(file));
    expect(anchors).toContain(anchor);
  });
});
