/**
 * Runs TypeScript without a build: `node --enable-source-maps --import ./tools/register-ts.mjs file.ts`.
 * Worker and caller processes of the tests and the demo are started this way.
 *
 * This file is both the registration and, loaded once more as `?hooks`, what is registered. Files
 * inside node_modules are left to Node.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { fileURLToPath } from 'node:url';

if (!import.meta.url.endsWith('?hooks')) register(`${import.meta.url}?hooks`);

const configFile = fileURLToPath(new URL('../.swcrc', import.meta.url));
const own = (url) => url?.startsWith('file:') === true && !url.includes('/node_modules/');

/** NodeNext sources import './x.js' where only './x.ts' exists. */
export function resolve(specifier, context, nextResolve) {
  if (/^(\.{1,2}\/|file:).*\.js$/.test(specifier) && own(context.parentURL)) {
    const js = new URL(specifier, context.parentURL);
    const ts = new URL(js.href.replace(/\.js$/, '.ts'));
    if (own(js.href) && !existsSync(js) && existsSync(ts)) return nextResolve(ts.href, context);
  }
  return nextResolve(specifier, context);
}

/** swc with the project's own settings (decorators and their metadata) and an inline source map. */
export async function load(url, context, nextLoad) {
  if (!own(url) || !/\.ts$/.test(new URL(url).pathname)) return nextLoad(url, context);
  const filename = fileURLToPath(url);
  const { transform } = await import('@swc/core');
  const { code } = await transform(await readFile(filename, 'utf8'), {
    filename,
    configFile,
    swcrc: false,
    sourceMaps: 'inline',
  });
  return { format: 'module', source: code, shortCircuit: true };
}
