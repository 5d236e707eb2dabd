/**
 * Starts one application and prints how long that took, as JSON. Plain JavaScript: nothing is compiled, so what is
 * timed is what a user's built application does. START_UP: `worker`, `caller` or `Nest alone`; REDIS_URL and
 * KEY_PREFIX as they say.
 */
const what = process.env.START_UP;
const from = performance.now();

const { Module } = await import('@nestjs/common');
const { NestFactory } = await import('@nestjs/core');
const library = what === 'Nest alone' ? undefined : await import('nestjs-functions');
const imported = performance.now();

class Echo {
  echo(input) {
    return input;
  }
}

function imports() {
  if (library === undefined) return [];
  const connection = process.env.REDIS_URL;
  const keyPrefix = process.env.KEY_PREFIX;
  return [library.FunctionsModule.forRoot({ connection, keyPrefix, worker: what === 'worker' })];
}

if (what === 'worker') {
  const descriptor = Object.getOwnPropertyDescriptor(Echo.prototype, 'echo');
  library.FunctionHandler({ name: 'echo' })(Echo.prototype, 'echo', descriptor);
}

class App {}
Module({ imports: imports(), providers: [Echo] })(App);

const app = await NestFactory.createApplicationContext(App, { logger: ['error'] });
if (library !== undefined) await app.get(library.WorkerCoordinator).whenActive();
const ready = performance.now();
console.log(JSON.stringify({ importMs: imported - from, readyMs: ready - imported }));
await app.close();
process.exit(0);
