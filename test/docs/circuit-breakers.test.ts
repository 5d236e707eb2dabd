import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { CIRCUIT_ALLOWED, CIRCUIT_DEFAULTS } from '../../src/circuit/circuit-options.js';
import { outcomeOf } from '../../src/circuit/outcome.js';
import {
  ERROR_CODES,
  FunctionsError,
  NOT_WRITTEN,
  RemoteFunctionError,
} from '../../src/common/errors.js';
import { bare, readText, rootPath, tableRows } from './markdown.js';
import { typeErrors } from './type-errors.js';

const text = readText('docs/circuit-breakers.md');
const fields = tableRows(text, 'field');

/** What the blocks take for granted. */
const PRELUDE = `
import {
  CircuitOpenError, defineFunction, FunctionCircuits, FunctionsModule, isFunctionsError,
  type EnhancedFunctionRegistry,
} from 'nestjs-functions';
declare const functions: EnhancedFunctionRegistry;
declare const circuits: FunctionCircuits;
declare function later(ms: number | undefined): unknown;
declare function alert(reason: string | undefined, at: number | undefined): void;
`;

describe('docs/circuit-breakers.md', () => {
  it('lists every field of a policy, with its default and what is allowed', () => {
    const told = fields.map((row) => [bare(row['field']), bare(row['allowed'])]);
    expect(Object.fromEntries(told)).toEqual(CIRCUIT_ALLOWED);
    for (const row of fields) {
      const value = CIRCUIT_DEFAULTS[bare(row['field']) as keyof typeof CIRCUIT_DEFAULTS];
      expect(row['default']).toMatch(new RegExp(`^\`${String(value)}\``));
    }
  });

  it('says of each code what it counts as, as the code has it', () => {
    const rows = tableRows(text, 'the call ends with');
    const told = rows.flatMap((row) =>
      [...(row['the call ends with'] ?? '').matchAll(/`([A-Z_]{5,})`/g)].map(
        ([, code = '']) => [code, row['it is']] as const,
      ),
    );
    const codes = told.filter(([code]) => Object.hasOwn(ERROR_CODES, code));
    expect(codes.length).toBeGreaterThan(12);
    for (const [code, outcome] of codes) {
      const error =
        code === 'HANDLER_FAILED' || code === 'INVALID_INPUT'
          ? new RemoteFunctionError('f', 'w', 'c', 'w', { code, message: 'm' })
          : new FunctionsError(code, 'm');
      expect([code, outcomeOf(error, undefined)]).toEqual([code, outcome]);
    }
    const late = new FunctionsError('DEADLINE_EXCEEDED', 'm', { details: { stage: NOT_WRITTEN } });
    expect(outcomeOf(late, undefined)).toBe('nothing');
  });

  it('has code that compiles', () => {
    mkdirSync(rootPath('.cache'), { recursive: true });
    const folder = mkdtempSync(rootPath('.cache/circuits-'));
    try {
      const blocks = [...text.matchAll(/^```ts\n([^]*?)^```/gm)].map(([, code = '']) => code);
      const inside = blocks.map((code, index) =>
        code.includes('export ')
          ? code
          : `export async function block${index}(): Promise<unknown> {\n${code}\nreturn undefined;\n}`,
      );
      const file = join(folder, 'blocks.ts');
      writeFileSync(file, [PRELUDE, ...inside].join('\n'));
      expect(typeErrors([file])).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }, 60_000);
});
