/**
 * `node --import tools/register-ts.mjs --import test/examples/from-source.mjs file.ts`: what imports the
 * package by its name gets the sources, so that no build is needed. Registration and hooks in one file.
 */
import { register } from 'node:module';

if (!import.meta.url.endsWith('?hooks')) register(`${import.meta.url}?hooks`);

const source = new URL('../../src/index.ts', import.meta.url).href;

export function resolve(specifier, context, nextResolve) {
  return nextResolve(specifier === 'nestjs-functions' ? source : specifier, context);
}
