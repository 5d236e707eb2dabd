/**
 * Installs the packed package into two applications as users have them, compiles them against its
 * types, runs them on a real Redis and on memory://, and runs their tests with Jest and the testing kit: Nest 11 in
 * CommonJS with ioredis 5, and Nest 12 in ESM with ioredis 6. Needs no build: packing builds.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { obtainRedis } from '../../tools/redis.mjs';
import { jestPackages, writeJestProject } from './jest-project.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const pinned = (name) => manifest.devDependencies[name];

const common = Object.fromEntries(
  ['class-transformer', 'class-validator', 'reflect-metadata', 'rxjs'].map((name) => [
    name,
    pinned(name),
  ]),
);

const apps = [
  {
    name: 'nest 11 cjs',
    folder: 'nest-11-cjs',
    type: 'commonjs',
    compilerOptions: {
      module: 'CommonJS',
      moduleResolution: 'node10',
      ignoreDeprecations: '6.0',
    },
    dependencies: {
      '@nestjs/common': '11.2.10',
      '@nestjs/core': '11.2.10',
      '@nestjs/microservices': '11.2.6',
      '@nestjs/terminus': '11.1.1',
      '@nestjs/testing': '11.2.6',
      ioredis: '5.11.1',
      ...common,
    },
  },
  {
    name: 'nest 12 esm',
    folder: 'nest-12-esm',
    type: 'module',
    compilerOptions: { module: 'NodeNext', moduleResolution: 'NodeNext' },
    dependencies: {
      '@nestjs/common': pinned('@nestjs/common'),
      '@nestjs/core': pinned('@nestjs/core'),
      '@nestjs/microservices': pinned('@nestjs/microservices'),
      '@nestjs/terminus': pinned('@nestjs/terminus'),
      '@nestjs/testing': pinned('@nestjs/testing'),
      ioredis: pinned('ioredis'),
      ...common,
    },
  },
];

/** Never rejects: `{ code, output }`; code is null when the time was up. */
function run(command, args, { cwd, env = {}, timeoutMs = 240_000 }) {
  const inherited = { ...process.env };
  delete inherited.npm_config_local_prefix; // set by `npm run`: it would install into the checkout
  return new Promise((resolve) => {
    const options = {
      cwd,
      env: { ...inherited, ...env },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      maxBuffer: 64 * 1024 * 1024,
    };
    execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ code, stdout, output: `${stdout}${stderr}` });
    });
  });
}

async function mustRun(what, ...args) {
  const result = await run(...args);
  if (result.code !== 0) throw new Error(`${what} failed (${result.code}):\n${result.output}`);
  return result.stdout;
}

async function pack(dir) {
  await mustRun('npm pack', 'npm', ['pack', '--pack-destination', dir], { cwd: root });
  const tarball = join(dir, `${manifest.name}-${manifest.version}.tgz`);
  const listing = await mustRun('tar', 'tar', ['-tzf', tarball], { cwd: dir });
  await checkFiles(listing.trim().split('\n'));
  return tarball;
}

/** What a user needs is in the package, and nothing else. */
async function checkFiles(listing) {
  const files = listing.map((file) => file.replace(/^package\//, ''));
  const scripts = (await readdir(join(root, 'src'), { recursive: true }))
    .filter((file) => file.endsWith('.lua'))
    .map((file) => `dist/${file}`);
  const entries = ['index', 'conformance/index', 'testing/index'];
  const built = entries.flatMap((entry) => [`dist/${entry}.js`, `dist/${entry}.d.ts`]);
  const wanted = ['package.json', 'README.md', 'LICENSE', ...built];
  const missing = [...wanted, ...scripts].filter((file) => !files.includes(file));
  const extra = files.filter((file) => !wanted.includes(file) && !file.startsWith('dist/'));
  if (scripts.length === 0) missing.push('dist/**/*.lua');
  if (missing.length > 0) throw new Error(`the tarball lacks ${missing.join(', ')}`);
  if (extra.length > 0) throw new Error(`the tarball holds ${extra.join(', ')}`);
}

async function install(app, dir, tarball) {
  await mkdir(dir, { recursive: true });
  await cp(fileURLToPath(new URL('./app', import.meta.url)), join(dir, 'src'), { recursive: true });
  const dependencies = { ...app.dependencies, [manifest.name]: `file:${tarball}` };
  const { overrides } = manifest;
  const devDependencies = Object.fromEntries(jestPackages.map((name) => [name, pinned(name)]));
  const own = { name: app.folder, private: true, type: app.type, dependencies };
  Object.assign(own, { devDependencies, overrides });
  await writeJestProject(dir, app.type);
  await writeFile(join(dir, 'package.json'), JSON.stringify(own, null, 2));
  const compilerOptions = {
    target: 'ES2023',
    lib: ['ES2023'],
    strict: true,
    esModuleInterop: true,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    skipLibCheck: false,
    typeRoots: [join(root, 'node_modules/@types')],
    types: ['node'],
    rootDir: 'src',
    outDir: 'out',
    ...app.compilerOptions,
  };
  await writeFile(
    join(dir, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, include: ['src'] }, null, 2),
  );
  const args = ['install', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'];
  await mustRun(`${app.name}: npm install`, 'npm', args, { cwd: dir });
}

/** What the package brings along: the breaker of circuits, and the histograms of metrics. */
const BROUGHT = ['cockatiel', 'hdr-histogram-js'];

/** All peers fit, and the package brings nothing along but that: one copy of everything. */
async function checkTree(app, dir) {
  await mustRun(`${app.name}: npm ls`, 'npm', ['ls', '--all', '--loglevel=error'], { cwd: dir });
  const home = join(dir, 'node_modules', manifest.name);
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
    await readFile(join(home, 'package.json'), 'utf8'),
  );
  const brought = Object.keys({ ...dependencies, ...optionalDependencies }).filter(
    (name) => !BROUGHT.includes(name),
  );
  if (brought.length > 0) throw new Error(`${app.name}: brings ${brought.join(', ')} along`);
  const nested = (await readdir(home)).includes('node_modules');
  if (nested) throw new Error(`${app.name}: ${manifest.name} has a node_modules of its own`);
}

/** Types of other packages may be wrong; those of this one and of its user may not. */
async function compile(app, dir) {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const args = [tsc, '-p', 'tsconfig.json', '--pretty', 'false'];
  const { output } = await run(process.execPath, args, { cwd: dir });
  const errors = output
    .split('\n')
    .filter((line) => /error TS\d+/.test(line))
    .filter((line) => !/^(\.\.\/)*[^(]*node_modules\//.test(line) || line.includes(manifest.name));
  if (errors.length > 0) throw new Error(`${app.name}: types\n${errors.join('\n')}`);
}

async function start(app, dir, url) {
  const env = { REDIS_URL: url, KEY_PREFIX: `pack-${process.pid}-${app.folder}:` };
  const options = { cwd: dir, env, timeoutMs: 60_000 };
  const { code, stdout, output } = await run(process.execPath, ['out/main.js'], options);
  if (code === null) throw new Error(`${app.name}: did not end by itself within 60 s:\n${output}`);
  const expected = JSON.stringify({
    success: true,
    data: { text: 'hello x' },
    inputs: ['Orders', 'Invoices'],
    measured: ['greet', 'invoices', 'orders'],
    cases: true,
  });
  if (code !== 0 || stdout.trim().split('\n').at(-1) !== expected) {
    throw new Error(`${app.name}: exit code ${code}, expected ${expected}, printed:\n${output}`);
  }
}

/** Their own tests, as `npm test` of such a project runs them. */
async function test(app, dir) {
  const flags = app.type === 'module' ? ['--experimental-vm-modules'] : [];
  const args = [...flags, 'node_modules/jest/bin/jest.js', '--ci', '--detectOpenHandles'];
  const { code, output } = await run(process.execPath, args, { cwd: dir, timeoutMs: 120_000 });
  const isClean = code === 0 && /Tests: +2 passed, 2 total/.test(output);
  if (!isClean || /open handle/.test(output))
    throw new Error(`${app.name}: its tests with Jest, exit code ${code}:\n${output}`);
}

async function check(app, dir, tarball, redisUrl) {
  await install(app, dir, tarball);
  await checkTree(app, dir);
  await compile(app, dir);
  await start(app, dir, redisUrl);
  await start(app, dir, 'memory://');
  await test(app, dir);
  console.log(`${app.name}: ok`);
}

const dir = await mkdtemp(join(tmpdir(), 'nestjs-functions-pack-'));
let redis;
try {
  const tarball = await pack(dir);
  redis = await obtainRedis();
  const checks = apps.map((app) => check(app, join(dir, app.folder), tarball, redis.url));
  for (const result of await Promise.allSettled(checks)) {
    if (result.status === 'fulfilled') continue;
    console.error(result.reason.message);
    process.exitCode = 1;
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await redis?.stop();
  await rm(dir, { recursive: true, force: true });
}
