import { existsSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { linksOf, readText, rootPath } from './markdown.js';

const PROMISES = [
  'Ready is an acknowledgement',
  'No missed wake-up',
  'Every call settles exactly once at its caller',
  'Nobody there is its own answer',
  'At least once, fenced',
  'Process death is seen in milliseconds, freezes in seconds',
  'Alive workers keep their calls',
  'No call starts after its deadline',
  'Drain',
  'Redis may go away',
  'Pub/sub may fail',
  'Bounded',
  'Bad input is refused before anything is sent',
  'One circuit for the fleet',
];

const text = readText('docs/guarantees.md');
const sections = text
  .split(/^## /m)
  .slice(1)
  .map((section) => ({
    title: section.slice(0, section.indexOf('\n')),
    tests: linksOf(section).filter((target) => target.startsWith('../test/')),
    lines: section,
  }));

describe('docs/guarantees.md', () => {
  it('lists the fourteen promises, and what is left of them without Redis', () => {
    expect(sections.map(({ title }) => title)).toEqual([
      ...PROMISES.map((promise, index) => `${index + 1}. ${promise}`),
      'Without Redis',
    ]);
  });

  it.each(sections)('names tests that exist for: $title', ({ tests }) => {
    expect(tests.length).toBeGreaterThan(0);
    const missing = tests.filter(
      (target) => !target.endsWith('.test.ts') || !existsSync(rootPath(target.slice('../'.length))),
    );
    expect(missing).toEqual([]);
  });

  it('says that a Cluster is refused, as long as it is', () => {
    const options = readText('src/functions.options.ts');
    expect(/Cluster\*\* is refused/.test(text)).toBe(
      options.includes('a Cluster is not supported yet'),
    );
  });
});
