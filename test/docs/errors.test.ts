import { describe, expect, it } from '@jest/globals';
import * as library from '../../src/index.js';
import { ERROR_CODES, FunctionsError } from '../../src/common/errors.js';
import { bare, filesBelow, readText, tableRows } from './markdown.js';

const text = readText('docs/errors.md');
const rows = tableRows(text, 'code').map((row) => ({
  code: bare(row['code']),
  className: bare(row['class']),
  retryable: row['retryable'],
  when: row['when'] ?? '',
  cure: row['what to do'] ?? '',
}));
const codes = Object.keys(ERROR_CODES);
const sources = filesBelow('src', /\.(ts|lua)$/)
  .filter((path) => path !== 'src/common/errors.ts' && path !== 'src/index.ts')
  .map(readText)
  .join('\n');

type Make = new (...args: never[]) => FunctionsError;

/** An error of a class, made of stand-ins for its facts. */
function sample(className: string): FunctionsError {
  const Class = (library as unknown as Record<string, Make>)[className];
  if (Class === undefined) throw new Error(`${className} is not exported`);
  const facts = {
    InvalidOptionsError: [[]],
    InvalidParametersError: ['f', 'w', []],
    InvalidInputError: ['f', []],
    WorkflowNotReadyError: ['w', 1, []],
    RemoteFunctionError: ['f', 'w', 'c', 'w1', { code: 'HANDLER_FAILED', message: 'm' }],
  }[className] ?? ['a', 'b', 'c', 'd'];
  return new Class(...(facts as never[]));
}

describe('docs/errors.md', () => {
  it('lists every code once, and no other', () => {
    expect(rows.map(({ code }) => code).sort()).toEqual([...codes].sort());
  });

  it.each(rows)('names the class of $code, which is exported', ({ code, className }) => {
    expect(sample(className).code).toBe(code);
  });

  it.each(rows)('says whether $code is retryable', ({ className, retryable }) => {
    expect(retryable).toBe(sample(className).retryable ? 'yes' : 'no');
  });

  it.each(rows)('says when $code comes and what to do', ({ when, cure }) => {
    expect([when, cure]).toEqual([expect.stringMatching(/\w{3}/), expect.stringMatching(/\w{3}/)]);
  });

  it('lists every class that is exported', () => {
    const exported = Object.entries(library)
      .filter(([, value]) => (value as Make).prototype instanceof FunctionsError)
      .map(([name]) => name)
      .filter((name) => name !== 'FunctionError');
    expect(rows.map(({ className }) => className).sort()).toEqual(exported.sort());
  });
});

describe('an error code', () => {
  it.each(rows)('is produced somewhere: $code', ({ code, className }) => {
    const made =
      sources.includes(`new ${className}(`) ||
      sources.includes(`'${code}'`) ||
      sources.includes(`ERROR_CODES.${code}`);
    expect({ code, made }).toEqual({ code, made: true });
  });

  it.each(codes)('is its own name: %s', (code) => {
    expect(ERROR_CODES[code as keyof typeof ERROR_CODES]).toBe(code);
  });
});
