import js from '@eslint/js';
import prettier from 'eslint-config-prettier';
import jest from 'eslint-plugin-jest';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const nodeGlobals = Object.fromEntries(
  [
    'AbortController',
    'AbortSignal',
    'Buffer',
    'URL',
    'clearInterval',
    'clearTimeout',
    'console',
    'fetch',
    'performance',
    'process',
    'queueMicrotask',
    'setImmediate',
    'setInterval',
    'setTimeout',
    'structuredClone',
  ].map((name) => [name, 'readonly']),
);

const sleepAdvice =
  'A literal sleep makes a test slow and flaky: await an event, a deferred or eventually(), or use a fake clock.';

export default defineConfig(
  { ignores: ['dist/**', 'coverage/**', '.cache/**'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,
  { files: ['**/*.mjs', '**/*.js'], languageOptions: { globals: nodeGlobals } },
  {
    files: ['**/*.cjs'],
    languageOptions: {
      sourceType: 'commonjs',
      globals: { ...nodeGlobals, module: 'writable', require: 'readonly' },
    },
  },
  {
    files: ['**/*.ts', '**/*.mts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // With emitDecoratorMetadata the rule leaves files with decorators alone: an injected class
      // must stay a value import there.
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'none' },
      ],
    },
  },
  {
    files: ['test/**/*.ts'],
    extends: [jest.configs['flat/recommended']],
    rules: {
      'jest/expect-expect': [
        'error',
        {
          assertFunctionNames: [
            'expect',
            'expect*',
            'eventually',
            'fleet.expect*',
            'request.**.expect',
          ],
        },
      ],
      // A method of a mock or a spy is handed to expect() unbound.
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    // A model checks itself while it is driven, and a fleet while it recovers.
    files: ['test/{chaos,models}/**/*.ts'],
    rules: { 'jest/no-standalone-expect': 'off' },
  },
  {
    files: ['test/**/*.{ts,mts,mjs,js}'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: "CallExpression[callee.name='setTimeout'][arguments.1.value>=10]",
          message: sleepAdvice,
        },
        {
          // setTimeout of node:timers/promises takes the time first
          selector: "CallExpression[callee.name='setTimeout'][arguments.0.value>=10]",
          message: sleepAdvice,
        },
        {
          selector:
            "CallExpression[callee.name=/^(sleep|delay)$/][arguments.0.type='Literal'][arguments.0.raw=/^[0-9]/]",
          message: sleepAdvice,
        },
      ],
    },
  },
  prettier,
);
