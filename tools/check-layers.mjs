/**
 * Keeps the layers: a folder of src has a rank and imports only from lower ranks or from itself,
 * files form no import cycle (types included), and foreign packages come in where they belong.
 *
 * `node tools/check-layers.mjs [folder]` prints what breaks this as `file:line` and exits 1.
 */
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** Rank of each folder. Folders of one rank do not know each other. */
const ranks = new Map([
  ['common', 0],
  ['protocol', 1],
  ['backend', 2],
  ['backend/redis', 2.5],
  ['backend/memory', 2.5],
  ['notifications', 3],
  ['readiness', 4],
  ['circuit', 4],
  ['lifecycle', 5],
  ['execution', 6],
  ['registry', 7],
  ['transport', 8],
  ['metrics', 8],
  ['tracing', 8],
  ['health', 8],
  ['.', 9],
  ['conformance', 10],
  ['testing', 10],
]);

/** Chooses the backend, so it may know them all: the module, and a factory beside the contract. */
const composesBackends = (file) =>
  file === 'functions.module.ts' || /^backend\/[^/]*(factory|create)[^/]*\.ts$/.test(file);

/** Where a backend is named on purpose: the memory one also serves as a test double. */
const mayNameBackend = (file, backend) =>
  composesBackends(file) ||
  layerOf(file) === backend ||
  (backend === 'backend/memory' && ['.', 'testing'].includes(layerOf(file)));

const nestLayers = new Set([
  'registry',
  'transport',
  'health',
  'metrics',
  'conformance',
  'testing',
  '.',
]);
const nestForAll = new Set([
  'Injectable',
  'Inject',
  'Optional',
  'Logger',
  'OnModuleInit',
  'OnModuleDestroy',
  'OnApplicationBootstrap',
  'OnApplicationShutdown',
  'BeforeApplicationShutdown',
]);

/** All violations in a source folder, ordered by file and line; see check-layers.d.mts. */
export function checkLayers(srcDir) {
  const root = resolve(srcDir);
  const files = sourceFiles(root);
  const known = new Set(files);
  const imports = files.flatMap((file) => importsOf(root, file, known));
  const violations = [
    ...files.flatMap(checkFolder),
    ...imports.flatMap(checkImport),
    ...findCycles(files, imports),
  ];
  return violations.sort((a, b) => compare(a.file, b.file) || a.line - b.line);
}

function compare(a, b) {
  return a < b ? -1 : Number(a > b);
}

function sourceFiles(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.[cm]?ts$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
}

/** `backend/redis/x.ts` -> `backend/redis`, `execution/caller/x.ts` -> `execution`, `x.ts` -> `.` */
function layerOf(file) {
  const folders = file.split('/').slice(0, -1);
  if (folders.length === 0) return '.';
  const two = folders.slice(0, 2).join('/');
  return ranks.has(two) ? two : folders[0];
}

// ---------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------

/** Every import, export-from, dynamic import, import type and import-require of one file. */
function importsOf(root, file, known) {
  const text = readFileSync(join(root, file), 'utf8');
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found = [];
  const visit = (node) => {
    const reference = referenceOf(node);
    if (reference !== undefined) {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
      const target = targetOf(file, reference.specifier, known);
      found.push({ file, line: line + 1, target, ...reference });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/** `{ specifier, names }`; names is undefined when the whole module is taken. */
function referenceOf(node) {
  if (ts.isImportDeclaration(node)) {
    return withSpecifier(node.moduleSpecifier, namesOfImport(node.importClause));
  }
  if (ts.isExportDeclaration(node) && node.moduleSpecifier) {
    const clause = node.exportClause;
    const named = clause !== undefined && ts.isNamedExports(clause);
    return withSpecifier(node.moduleSpecifier, named ? namesOf(clause) : undefined);
  }
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    return withSpecifier(node.arguments[0], undefined);
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    const name = node.qualifier?.getText().split('.')[0];
    return withSpecifier(node.argument.literal, name === undefined ? undefined : [name]);
  }
  if (ts.isExternalModuleReference(node)) return withSpecifier(node.expression, undefined);
  return undefined;
}

function withSpecifier(node, names) {
  return node !== undefined && ts.isStringLiteralLike(node)
    ? { specifier: node.text, names }
    : undefined;
}

function namesOfImport(clause) {
  if (clause === undefined) return [];
  const bindings = clause.namedBindings;
  if (bindings !== undefined && ts.isNamespaceImport(bindings)) return undefined;
  return [...(clause.name ? ['default'] : []), ...(bindings ? namesOf(bindings) : [])];
}

function namesOf(list) {
  return list.elements.map((element) => (element.propertyName ?? element.name).text);
}

/** The file of src that a relative specifier means, or undefined for packages and other files. */
function targetOf(file, specifier, known) {
  if (!specifier.startsWith('.')) return undefined;
  const path = join(dirname(file), specifier).split(sep).join('/').replace(/\/$/, '');
  const candidates = [
    path.replace(/\.([cm]?)js$/, '.$1ts'),
    `${path}.ts`,
    path === '.' ? 'index.ts' : `${path}/index.ts`,
  ];
  return candidates.find((candidate) => known.has(candidate));
}

// ---------------------------------------------------------------------------------------------
// Rules
// ---------------------------------------------------------------------------------------------

function checkFolder(file) {
  const layer = layerOf(file);
  if (ranks.has(layer)) return [];
  const cure = 'move the file into a layer, or give the folder a rank in tools/check-layers.mjs';
  return [{ file, line: 1, rule: 'folder', message: `the folder ${layer} has no rank`, cure }];
}

function checkImport(found) {
  return found.target === undefined ? checkPackage(found) : checkOwnFile(found);
}

function checkOwnFile({ file, line, target }) {
  if (/(^|\/)index\.ts$/.test(target)) {
    const cure = 'import the file that declares the name';
    return [{ file, line, rule: 'barrel', message: `imports the barrel ${target}`, cure }];
  }
  const [from, to] = [layerOf(file), layerOf(target)];
  if (to.startsWith('backend/') && from !== to) {
    if (mayNameBackend(file, to)) return [];
    const cure = 'use the contract in backend/; only functions.module.ts or a factory chooses one';
    return [{ file, line, rule: 'backend', message: `${file} imports ${to} (${target})`, cure }];
  }
  const [rank, targetRank] = [ranks.get(from), ranks.get(to)];
  if (from === to || rank === undefined || targetRank === undefined || targetRank < rank) return [];
  const direction = targetRank === rank ? 'sideways' : 'up';
  const message = `${from} (rank ${rank}) imports ${direction} from ${to} (rank ${targetRank})`;
  const cure = 'move what both need down, or declare a port below and pass the implementation in';
  return [{ file, line, rule: 'layer', message, cure }];
}

/** Packages that one layer alone knows: not everybody has them, or wants to load them. */
const owners = new Map([
  ['hdr-histogram-js', 'metrics'],
  ['prom-client', 'metrics'],
  ['@opentelemetry', 'tracing'],
]);

function ownerOf(specifier) {
  for (const [name, layer] of owners)
    if (specifier === name || specifier.startsWith(`${name}/`)) return layer;
  return undefined;
}

function checkPackage({ file, line, specifier, names }) {
  const layer = layerOf(file);
  if (specifier === 'nestjs-functions' || specifier.startsWith('nestjs-functions/')) {
    const cure = 'import the file that declares the name';
    return [{ file, line, rule: 'barrel', message: 'imports its own package', cure }];
  }
  if (/^ioredis(\/|$)/.test(specifier) && layer !== 'backend/redis') {
    const cure = 'speak to Redis through a port of backend/ that backend/redis implements';
    return [{ file, line, rule: 'ioredis', message: `${layer} imports ${specifier}`, cure }];
  }
  const owner = ownerOf(specifier);
  if (owner !== undefined && owner !== layer) {
    const cure = `speak to it through ${owner}, which loads it where it is asked for`;
    return [{ file, line, rule: 'package', message: `${layer} imports ${specifier}`, cure }];
  }
  if (!specifier.startsWith('@nestjs/') || nestLayers.has(layer)) return [];
  const taken = names === undefined ? ['*'] : names;
  const excess =
    specifier === '@nestjs/common' ? taken.filter((name) => !nestForAll.has(name)) : [specifier];
  if (excess.length === 0) return [];
  const message = `${layer} imports ${excess.join(', ')} of ${specifier}`;
  const cure =
    'below the registry only Injectable, Inject, Optional, Logger and the lifecycle interfaces ' +
    'of @nestjs/common are used: move it into registry, transport or health';
  return [{ file, line, rule: 'nest', message, cure }];
}

/** One shortest cycle for each knot of files, reported at its first file's import. */
function findCycles(files, imports) {
  const edges = new Map(files.map((file) => [file, []]));
  for (const found of imports) if (found.target) edges.get(found.file).push(found);
  const reported = new Set();
  const violations = [];
  for (const start of files) {
    if (reported.has(start)) continue;
    const cycle = shortestCycle(start, edges);
    if (cycle === undefined) continue;
    for (const step of cycle) reported.add(step.file);
    const path = [...cycle.map((step) => step.file), start].join(' -> ');
    const cure = 'move what they share into a third file, or turn one import into a parameter';
    violations.push({ file: start, line: cycle[0].line, rule: 'cycle', message: path, cure });
  }
  return violations;
}

/** Breadth first from a file's imports back to the file; the imports that lead there. */
function shortestCycle(start, edges) {
  const seen = new Set();
  let paths = edges.get(start).map((edge) => [edge]);
  while (paths.length > 0) {
    const next = [];
    for (const path of paths) {
      const { target } = path.at(-1);
      if (target === start) return path;
      if (seen.has(target)) continue;
      seen.add(target);
      next.push(...edges.get(target).map((edge) => [...path, edge]));
    }
    paths = next;
  }
  return undefined;
}

// ---------------------------------------------------------------------------------------------
// The command
// ---------------------------------------------------------------------------------------------

function main(srcDir) {
  const violations = checkLayers(srcDir);
  const shown = relative(process.cwd(), resolve(srcDir)) || '.';
  for (const { file, line, rule, message, cure } of violations) {
    console.error(`${shown}/${file}:${line}  ${rule}: ${message}\n    cure: ${cure}`);
  }
  if (violations.length > 0) {
    console.error(`${violations.length} violation${violations.length === 1 ? '' : 's'} of layers`);
    process.exitCode = 1;
    return;
  }
  console.log(`layers: ${sourceFiles(resolve(srcDir)).length} files, no violation`);
}

const invoked = process.argv[1];
if (invoked !== undefined && realpathSync(invoked) === fileURLToPath(import.meta.url)) {
  const srcDir = process.argv[2] ?? fileURLToPath(new URL('../src', import.meta.url));
  if (statSync(srcDir, { throwIfNoEntry: false })?.isDirectory() !== true) {
    console.error(`${srcDir} is not a folder; usage: node tools/check-layers.mjs [folder]`);
    process.exit(2);
  }
  main(srcDir);
}
