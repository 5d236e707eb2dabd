import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootPath } from './markdown.js';

/** A test of a page, as Jest reports it. */
export interface RanTest {
  readonly fullName: string;
  readonly status: string;
  readonly failureMessages: readonly string[];
  /** Milliseconds. */
  readonly duration: number;
}

/** What a run of a page's tests brought. */
export interface RanFile {
  readonly tests: readonly RanTest[];
  /** What Jest wrote; open handles are among it. */
  readonly output: string;
}

/** The blocks of a language in a page, in order. */
export function codeBlocks(text: string, language: string): string[] {
  const blocks = text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, 'gm'));
  return [...blocks].map((match) => match[1] ?? '');
}

/** A folder inside the checkout, so that packages are found. */
export function makeFolder(name: string): string {
  mkdirSync(rootPath('.cache'), { recursive: true });
  return mkdtempSync(rootPath(`.cache/${name}-`));
}

/** Runs code as a test file, in a Jest of its own: as a reader would. */
export async function runTests(code: string): Promise<RanFile> {
  const folder = makeFolder('written-tests');
  try {
    writeFileSync(join(folder, 'page.test.ts'), code);
    const report = join(folder, 'report.json');
    const output = await jest(folder, report);
    return { tests: testsOf(report), output };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function jest(folder: string, report: string): Promise<string> {
  const config = {
    rootDir: rootPath(''),
    roots: [folder],
    testEnvironment: 'node',
    testMatch: ['**/page.test.ts'],
    extensionsToTreatAsEsm: ['.ts'],
    transform: { '^.+\\.ts$': '@swc/jest' },
    resolver: '<rootDir>/jest.resolver.cjs',
    moduleNameMapper: {
      '^nestjs-functions$': '<rootDir>/src/index.ts',
      '^nestjs-functions/testing$': '<rootDir>/src/testing/index.ts',
    },
    injectGlobals: false,
  };
  const args = [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    rootPath('node_modules/jest/bin/jest.js'),
    ...['--config', JSON.stringify(config), '--json', '--outputFile', report],
    '--detectOpenHandles',
  ];
  return new Promise((resolve) => {
    const options = { cwd: rootPath(''), timeout: 90_000 };
    execFile(process.execPath, args, options, (_error, stdout, stderr) => resolve(stdout + stderr));
  });
}

function testsOf(report: string): RanTest[] {
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
    testResults: { message: string; assertionResults: RanTest[] }[];
  };
  const [file] = testResults;
  if (file === undefined || file.assertionResults.length === 0)
    throw new Error(`the page has no tests: ${file?.message ?? 'it was not run'}`);
  return file.assertionResults;
}
