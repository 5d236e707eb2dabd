import { describe, expect, it } from '@jest/globals';
import { ALLOWED, DEFAULTS } from '../../src/functions.options.js';
import { bare, readText, tableRows } from './markdown.js';

const text = readText('docs/options.md');
const rows = tableRows(text, 'option');
const sorted = (names: Iterable<string>): string[] => [...names].sort();

/** Names of the optional and required fields of an interface in a source file. */
function fieldsOf(path: string, ...interfaces: string[]): string[] {
  const source = readText(path);
  return interfaces.flatMap((name) => {
    const body = new RegExp(`export interface ${name}\\b[^{]*\\{([^]*?)\\n\\}`).exec(source)?.[1];
    if (body === undefined) throw new Error(`${path} has no interface ${name}`);
    return [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, field]) => field ?? '');
  });
}

describe('docs/options.md', () => {
  it('lists every option of the module, and no other', () => {
    expect(sorted(rows.map((row) => bare(row['option'])))).toEqual(sorted(Object.keys(ALLOWED)));
  });

  it.each(Object.entries(DEFAULTS))('says the default of %s', (name, value) => {
    const row = rows.find((one) => bare(one['option']) === name);
    const literal = typeof value === 'string' ? `'${value}'` : String(value);
    expect(row?.['default']).toBe(`\`${literal}\``);
  });

  it.each(Object.entries(ALLOWED))(
    'says what is allowed for %s, word for word',
    (name, allowed) => {
      const row = rows.find((one) => bare(one['option']) === name);
      expect(row?.['allowed']).toBe(allowed);
    },
  );

  it.each(Object.keys(ALLOWED))('explains %s', (name) => {
    expect(text).toMatch(new RegExp(`^- \\*\\*\`${name}\`\\*\\* \\S`, 'm'));
  });

  it('lists every option of a call, and no other', () => {
    expect(sorted(tableRows(text, 'call option').map((row) => bare(row['call option'])))).toEqual(
      sorted(fieldsOf('src/registry/call-options.ts', 'CallOptions')),
    );
  });

  it('lists every option of a handler, and no other', () => {
    expect(
      sorted(tableRows(text, 'handler option').map((row) => bare(row['handler option']))),
    ).toEqual(
      sorted(
        fieldsOf(
          'src/registry/function-handler.decorator.ts',
          'HandlerSettings',
          'FunctionHandlerOptions',
        ),
      ),
    );
  });
});
