import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import ts from 'typescript';
import { Keys } from '../../src/protocol/keys.js';
import { WORKFLOW_EVENTS } from '../../src/protocol/workflow-event.js';
import { bare, readText, rootPath, tableRows } from './markdown.js';

const text = readText('docs/workflows.md');
const snippets = [...text.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code]) => code ?? '');

/** What the snippets take for granted. */
const PRELUDE = `
import { type OnModuleInit } from '@nestjs/common';
import {
  EnhancedFunctionRegistry, FunctionsModule, OnWorkflowEvent, WorkflowNotifier, type WorkflowEvent,
} from 'nestjs-functions';
declare const functions: EnhancedFunctionRegistry;
declare const workflows: WorkflowNotifier;
declare const signal: AbortSignal;
declare const url: string;
declare function load(details: unknown): Promise<unknown>;
`;

describe('docs/workflows.md', () => {
  let folder: string;

  beforeAll(() => {
    // Inside the checkout, so that packages are found.
    mkdirSync(rootPath('.cache'), { recursive: true });
    folder = mkdtempSync(rootPath('.cache/workflows-'));
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('has code that compiles', () => {
    const parts = snippets.map((code, index) => {
      if (code.includes('export ')) return code;
      return `async function snippet${index}(): Promise<unknown> {\n${code}\nreturn undefined;\n}`;
    });
    const file = join(folder, 'snippets.ts');
    writeFileSync(file, [PRELUDE, ...parts].join('\n'));
    const { config } = ts.readConfigFile(rootPath('tsconfig.json'), (path) =>
      ts.sys.readFile(path),
    ) as { config: object };
    const { options } = ts.parseJsonConfigFileContent(
      { ...config, include: [], files: [file] },
      ts.sys,
      rootPath(''),
    );
    const problems = ts
      .getPreEmitDiagnostics(ts.createProgram([file], options))
      .filter((one) => one.file === undefined || one.file.fileName === file)
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
    expect(problems).toEqual([]);
  }, 60_000);

  it('lists the events, and their channels', () => {
    const keys = new Keys('');
    expect(
      tableRows(text, 'event').map((row) => [bare(row['event']), bare(row['channel'])]),
    ).toEqual(
      WORKFLOW_EVENTS.map((type) => [
        type,
        keys.workflowChannel(type, 'W').replace('W', '${workflowId}'),
      ]),
    );
  });

  it('lists every option of a restart, and no other', () => {
    const source = readText('src/workflow/restart-options.ts');
    const body = /export interface RestartOptions \{([^]*?)\n\}/.exec(source)?.[1] ?? '';
    const fields = [...body.matchAll(/^ {2}readonly (\w+)\?:/gm)].map(([, field]) => field);
    expect(
      tableRows(text, 'option')
        .map((row) => bare(row['option']))
        .sort(),
    ).toEqual(fields.sort());
  });
});
