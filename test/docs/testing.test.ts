import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { SPY_EVENT_NAMES } from '../../src/testing/spy-events.js';
import { FunctionStub, TestClock } from '../../src/testing/index.js';
import { bare, readText, tableRows } from './markdown.js';
import { typeErrors } from './type-errors.js';
import { codeBlocks, makeFolder, runTests, type RanFile } from './written-tests.js';

const page = readText('docs/testing.md');
const readme = readText('README.md');

/** Public methods and accessors of a class, save what is marked as internal. */
function namesOf(type: { prototype: object }, file: string): string[] {
  const internal = [...readText(file).matchAll(/@internal[^]*?\n {2}(?:async |get )?(\w+)[(<]/g)];
  const hidden = new Set(internal.map(([, name]) => name));
  const source = readText(file);
  return Object.getOwnPropertyNames(type.prototype).filter(
    (name) =>
      name !== 'constructor' &&
      !hidden.has(name) &&
      !source.includes(`private ${name}(`) &&
      !source.includes(`private async ${name}(`),
  );
}

describe('docs/testing.md', () => {
  const code = codeBlocks(page, 'ts').join('\n');
  let ran: RanFile;
  beforeAll(async () => {
    ran = await runTests(code);
  }, 120_000);

  it('compiles', () => {
    const folder = makeFolder('testing-page');
    const file = join(folder, 'page.test.ts');
    writeFileSync(file, code);
    const errors = typeErrors([file]);
    rmSync(folder, { recursive: true, force: true });
    expect(errors).toEqual([]);
  }, 60_000);

  it('has tests that pass', () => {
    const failed = ran.tests.filter(({ status }) => status !== 'passed');
    expect(failed.map(({ fullName, failureMessages }) => [fullName, failureMessages])).toEqual([]);
    expect(ran.tests.length).toBeGreaterThan(12);
  });

  it('leaves nothing open', () => {
    expect(ran.output).not.toMatch(/open handle/i);
    expect(ran.output).not.toMatch(/did not exit/i);
  });

  it('lists every event of the spy, and no other', () => {
    const told = tableRows(page, 'event').map((row) => bare(row['event']));
    expect(told).toEqual([...SPY_EVENT_NAMES]);
  });

  it.each([
    ['a stub', 'method of a stub', FunctionStub, 'src/testing/function-stub.ts'],
    ['the clock', 'method', TestClock, 'src/testing/test-clock.ts'],
  ] as const)('names every method of %s', (_, title, type, file) => {
    const told = tableRows(page, title)
      .map((row) => row[title] ?? '')
      .join(' ');
    const missing = namesOf(type, file).filter((name) => !new RegExp(`\\b${name}\\b`).test(told));
    expect(missing.filter((name) => !OBVIOUS.has(name))).toEqual([]);
  });
});

/** What every clock has, and what says how another thing stands. */
const OBVIOUS = new Set(['after', 'every', 'pending', 'mode', 'isThere']);

describe('the README', () => {
  const [snippet = '', ...others] = codeBlocks(readme, 'ts').filter((block) =>
    block.includes('FunctionsTestingModule'),
  );
  const controller = codeBlocks(readme, 'ts').find((block) =>
    block.includes('class ImagesController'),
  );
  const contract = codeBlocks(readme, 'ts').find((block) => block.includes('export const resize'));
  const input = codeBlocks(readme, 'ts').find((block) => block.includes('class ResizeInput'));

  it('tests a controller in ten lines', () => {
    expect(others).toEqual([]);
    const [, body = ''] = /^it\([^]*?=> \{\n([^]*)^\}\);/m.exec(snippet) ?? [];
    const lines = body.split('\n').filter((line) => line.trim() !== '');
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length).toBeLessThanOrEqual(10);
  });

  it('does so in milliseconds', async () => {
    // A first test pays for what is loaded and compiled for it: it is run twice.
    const code = [PRELUDE, input, contract, controller, snippet, snippet].join('\n');
    const { tests } = await runTests(code);
    expect(tests.map(({ status, failureMessages }) => [status, failureMessages])).toEqual([
      ['passed', []],
      ['passed', []],
    ]);
    // What the README says, with room for a busy machine.
    expect(tests[1]?.duration).toBeLessThan(500);
  }, 120_000);
});

const PRELUDE = `
import { expect, it } from '@jest/globals';
import { Body, Controller, Injectable, Post } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { IsInt, IsUrl, Max } from 'class-validator';
import { defineFunction, EnhancedFunctionRegistry, FunctionContext, FunctionHandler } from 'nestjs-functions';
import { FunctionsTestingModule, TestFleet } from 'nestjs-functions/testing';
declare function store(image: Response, width: number): Promise<string>;
`;
