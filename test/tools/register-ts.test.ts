import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

const loader = new URL('../../tools/register-ts.mjs', import.meta.url).href;
const cache = fileURLToPath(new URL('../../.cache', import.meta.url));

let dir: string;

beforeEach(() => {
  // Inside the checkout, so that packages are found.
  mkdirSync(cache, { recursive: true });
  dir = mkdtempSync(`${cache}/register-ts-`);
});

afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

async function run(file: string): Promise<string> {
  const args = ['--enable-source-maps', '--import', loader, join(dir, file)];
  return (await promisify(execFile)(process.execPath, args)).stdout;
}

describe('the TypeScript loader', () => {
  it('resolves .js to .ts and emits the metadata that injection needs', async () => {
    writeFileSync(
      join(dir, 'parts.ts'),
      `import 'reflect-metadata';
      import { Injectable } from '@nestjs/common';
      @Injectable() export class Part {}
      @Injectable() export class Whole { constructor(readonly part: Part) {} }`,
    );
    writeFileSync(
      join(dir, 'main.ts'),
      `import { Part, Whole } from './parts.js';
      const types: unknown[] = Reflect.getMetadata('design:paramtypes', Whole);
      console.log(types[0] === Part);`,
    );
    expect(await run('main.ts')).toBe('true\n');
  });

  it('tells positions of the source in stacks', async () => {
    writeFileSync(
      join(dir, 'main.ts'),
      "interface Erased {\n  a: 1;\n}\n\nconst value = {} as Erased;\nconsole.log(value, new Error('x').stack);",
    );
    expect(await run('main.ts')).toContain(`main.ts:6:20`);
  });
});
