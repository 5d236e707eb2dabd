import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';

const root = fileURLToPath(new URL('../../', import.meta.url));
const FOLDER = `${root}test/types/`;

const PREAMBLE = `
import { Injectable } from '@nestjs/common';
import { IsInt, IsString } from 'class-validator';
import {
  defineFunction, EnhancedFunctionRegistry, FunctionHandler, FunctionsModule,
  type CallOptions, type FunctionContext, type WorkerInfo,
} from '../../src/index.js';

interface Input { readonly url: string; readonly width: number }
interface Output { readonly url: string }
class InputClass { @IsString() url!: string; @IsInt() width!: number }
declare const registry: EnhancedFunctionRegistry;
const resize = defineFunction<Input, Output>({ name: 'resize', workflowId: 'media' });
`;

/** A handler of `resize` in a provider. */
const handler = (decorator: string, method: string): string =>
  `@Injectable() export class Handlers { ${decorator} ${method} { throw new Error('not run'); } }`;

interface Snippet {
  readonly title: string;
  readonly code: string;
}

const COMPILES: readonly Snippet[] = [
  {
    title: 'a call with what the contract wants, and its result',
    code: `const answer: Promise<Output> = registry.call(resize, { url: 'u', width: 1 }); void answer;`,
  },
  {
    title: 'a call of a contract with every option',
    code: `
      const options: CallOptions = {
        workflowId: 'w', item: 7, timeoutMs: 1, readinessTimeoutMs: 1, signal: AbortSignal.abort(),
        ifUnavailable: 'fail', delivery: 'at-most-once', headers: { a: 'b' }, onProgress: () => undefined,
      };
      void registry.call(resize, { url: 'u', width: 1 }, options);`,
  },
  {
    title: 'a call by name, whose result is unknown',
    code: `const answer: Promise<unknown> = registry.call('resize', { any: 1 }); void answer;`,
  },
  {
    title: 'a call by name, whose result the caller claims',
    code: `const answer: Promise<Output> = registry.call<Output>('resize'); void answer;`,
  },
  {
    title: 'a wait with milliseconds, with options, and with neither',
    code: `
      const worker: Promise<WorkerInfo> = registry.waitForFunction('f', 'w', 5);
      void worker;
      void registry.waitForFunction('f', 'w', { timeoutMs: 5, signal: AbortSignal.abort() });
      void registry.waitForFunction('f', 'w');`,
  },
  {
    title: 'a handler of the contract, that answers at once',
    code: handler('@FunctionHandler(resize)', 'resize(input: Input): Output'),
  },
  {
    title: 'a handler of the contract, that answers later and uses the context',
    code: handler(
      '@FunctionHandler(resize, { concurrency: 2 })',
      'resize(input: Input, context: FunctionContext): Promise<Output>',
    ),
  },
  {
    title: 'a handler of the contract, that needs less of the input',
    code: handler('@FunctionHandler(resize)', 'resize(input: { url: string }): Output'),
  },
  {
    title: 'a handler of the contract, with an input class of its shape',
    code: handler(
      '@FunctionHandler(resize, { input: InputClass })',
      'resize(input: InputClass): Output',
    ),
  },
  {
    title: 'a handler with an input class',
    code: handler(
      `@FunctionHandler({ name: 'resize', input: InputClass })`,
      'resize(input: InputClass): Promise<Output>',
    ),
  },
  {
    title: 'a handler without a class, of any input',
    code: handler(`@FunctionHandler({ name: 'resize' })`, 'resize(input: { url: string }): Output'),
  },
  {
    title: 'a module without options, with options, and with a factory',
    code: `
      FunctionsModule.forRoot();
      FunctionsModule.forRoot({ concurrency: 1, health: { required: [{ functionName: 'f' }] } });
      FunctionsModule.forRootAsync({ inject: ['URL'], useFactory: (url: string) => ({ connection: url }) });`,
  },
  {
    title: 'a contract with a circuit, and its handle',
    code: `
      const charge = defineFunction<Input, Output>({ name: 'charge', circuit: { failureRate: 0.2 } });
      const states: ('closed' | 'open' | 'half-open')[] = [registry.getCircuit(charge).state];
      void states;
      registry.getCircuit('charge', 'shop').on('open', ({ reason, retryAt }) => [reason, retryAt]);
      void FunctionsModule.forRoot({ circuit: { functions: [{ functionName: 'charge', openMs: 5 }] } });`,
  },
];

const REFUSED: readonly (Snippet & { readonly message: RegExp })[] = [
  {
    title: 'a call that lacks a parameter',
    code: `void registry.call(resize, { url: 'u' });`,
    message: /width/,
  },
  {
    title: 'a call with a parameter of another type',
    code: `void registry.call(resize, { url: 'u', width: '80' });`,
    message: /'string' is not assignable to type 'number'/,
  },
  {
    title: 'a call with a parameter too many',
    code: `void registry.call(resize, { url: 'u', width: 1, hight: 1 });`,
    message: /'hight' does not exist/,
  },
  {
    title: 'a call of a contract without parameters',
    code: `void registry.call(resize);`,
    message: /No overload matches|arguments|not assignable to parameter/,
  },
  {
    title: 'a result used as something else',
    code: `const answer: Promise<{ width: number }> = registry.call(resize, { url: 'u', width: 1 }); void answer;`,
    message: /width/,
  },
  {
    title: 'the result of a call by name used as anything',
    code: `registry.call('resize').then((answer) => answer.url);`,
    message: /'answer' is of type 'unknown'/,
  },
  {
    title: 'a misspelt option of a call',
    code: `void registry.call(resize, { url: 'u', width: 1 }, { timeout: 5 });`,
    message: /'timeout' does not exist/,
  },
  {
    title: 'an unknown delivery',
    code: `void registry.call(resize, { url: 'u', width: 1 }, { delivery: 'exactly-once' });`,
    message: /exactly-once/,
  },
  {
    title: 'a handler of the contract that needs more than callers send',
    code: handler('@FunctionHandler(resize)', 'resize(input: Input & { dpi: number }): Output'),
    message: /dpi/,
  },
  {
    title: 'a handler of the contract with a parameter of another type',
    code: handler(
      '@FunctionHandler(resize)',
      'resize(input: { url: string; width: string }): Output',
    ),
    message: /width/,
  },
  {
    title: 'a handler of the contract that answers something else',
    code: handler('@FunctionHandler(resize)', 'resize(input: Input): { link: string }'),
    message: /link|Output/,
  },
  {
    title: 'a handler of the contract that answers something else later',
    code: handler('@FunctionHandler(resize)', 'resize(input: Input): Promise<string>'),
    message: /string/,
  },
  {
    title: 'a handler of the contract with an input class of another shape',
    code: `class Other { @IsString() link!: string }
      ${handler('@FunctionHandler(resize, { input: Other })', 'resize(input: Input): Output')}`,
    message: /Other/,
  },
  {
    title: 'a handler whose input class is another than its argument',
    code: handler(
      `@FunctionHandler({ name: 'resize', input: InputClass })`,
      'resize(input: { link: string }): Output',
    ),
    message: /link/,
  },
  {
    title: 'a handler on what is no method',
    code: `@Injectable() export class Handlers { @FunctionHandler(resize) resize = 7; }`,
    message: /decorator|signature|expression/i,
  },
  {
    title: 'a misspelt option of the module',
    code: `FunctionsModule.forRoot({ concurency: 1 });`,
    message: /'concurency' does not exist/,
  },
  {
    title: 'a contract without a name',
    code: `defineFunction<Input, Output>({ workflowId: 'media' });`,
    message: /name/,
  },
  {
    title: 'a contract whose input is no object',
    code: `defineFunction<string, Output>({ name: 'f' });`,
    message: /'string' does not satisfy the constraint 'object'/,
  },
];

/** What the compiler says about each snippet; all in one program, for the library is read once. */
function diagnose(snippets: readonly Snippet[], extra: ts.CompilerOptions): string[] {
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, (path) => ts.sys.readFile(path)) as {
    config: { compilerOptions: object };
  };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root);
  const files = new Map(
    snippets.map(({ code }, index) => [`${FOLDER}snippet-${index}.ts`, `${PREAMBLE}\n${code}\n`]),
  );
  const all: ts.CompilerOptions = { ...options, ...extra, noEmit: true };
  const host = ts.createCompilerHost(all);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (path) => files.has(path) || fileExists(path);
  host.readFile = (path) => files.get(path) ?? readFile(path);
  host.getSourceFile = (path, version, ...rest) => {
    const text = files.get(path);
    return text === undefined
      ? getSourceFile(path, version, ...rest)
      : ts.createSourceFile(path, text, version);
  };
  const program = ts.createProgram([...files.keys()], all, host);
  return [...files.keys()].map((path) =>
    ts
      .getPreEmitDiagnostics(program, program.getSourceFile(path))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
      .join('\n'),
  );
}

describe.each([
  ['strict', {}],
  ['strict without exactOptionalPropertyTypes', { exactOptionalPropertyTypes: false }],
] as const)('for an application that compiles %s', (_, extra) => {
  const said = diagnose([...COMPILES, ...REFUSED], extra);

  it.each(COMPILES.map(({ title }, index) => ({ title, index })))(
    'this compiles: $title',
    ({ index }) => {
      expect(said[index]).toBe('');
    },
  );

  it.each(REFUSED.map(({ title, message }, index) => ({ title, message, index })))(
    'this does not compile: $title',
    ({ message, index }) => {
      expect(said[COMPILES.length + index]).toMatch(message);
    },
  );
});
