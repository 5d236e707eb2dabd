import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What a project needs for Jest besides Nest. */
export const jestPackages = ['jest', '@jest/globals', '@swc/jest', '@swc/core'];

const decorators = {
  jsc: {
    target: 'es2022',
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
  },
};

/** In CommonJS the package, which is ESM, is transformed like the project: the README says so. */
const configs = {
  commonjs: {
    transform: { '^.+\\.(ts|js)$': '@swc/jest' },
    transformIgnorePatterns: ['/node_modules/(?!nestjs-functions/)'],
  },
  module: {
    transform: { '^.+\\.ts$': '@swc/jest' },
    extensionsToTreatAsEsm: ['.ts'],
  },
};

/** The files that make a project's tests run in Jest. */
export async function writeJestProject(dir, type) {
  const config = { testEnvironment: 'node', testMatch: ['<rootDir>/src/**/*.spec.ts'] };
  const whole = { ...config, ...configs[type] };
  await writeFile(join(dir, '.swcrc'), JSON.stringify(decorators, null, 2));
  await writeFile(join(dir, 'jest.config.json'), JSON.stringify(whole, null, 2));
}
