/**
 * `npm run example:circuits`: three shops that charge through one bank. The bank goes down, all shops stop calling it
 * within milliseconds, one of them tries now and then, and all go on when it is back.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { obtainRedis } from '../../tools/redis.mjs';

const LIMIT_MS = 30_000;
const SHOPS = ['north', 'south', 'west'];

interface Change {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly reason?: string;
  readonly at: number;
}

const started: ChildProcess[] = [];
const changes: Change[] = [];
const beginning = performance.now();

function print(who: string, what: string): void {
  const ms = String(Math.round(performance.now() - beginning)).padStart(6);
  console.log(`${ms}  ${who.padEnd(6)}  ${what}`);
}

async function start(file: string, ...args: string[]): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), args, {
    execArgv: process.execArgv,
  });
  started.push(child);
  await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => Promise.reject(new Error(`${file} ended at once`))),
  ]);
  child.on('message', (message: Change) => {
    if (message.to === undefined) return;
    changes.push(message);
    print(message.name, `${message.from} -> ${message.to} ${message.reason ?? ''}`);
  });
  return child;
}

/** Calls that the bank got since it was asked last. */
async function tellBank(bank: ChildProcess, message: object): Promise<number> {
  const answer = once(bank, 'message');
  bank.send(message);
  const [{ calls }] = (await answer) as [{ calls: number }];
  return calls;
}

/** The moment at which every shop is in a state that it was not in before. */
async function all(to: string, after: number): Promise<number[]> {
  const until = Date.now() + LIMIT_MS;
  for (;;) {
    const found = SHOPS.map((shop) =>
      changes.find((change) => change.name === shop && change.to === to && change.at > after),
    );
    if (found.every((change) => change !== undefined)) return found.map(({ at }) => at);
    if (Date.now() > until) throw new Error(`not all shops are ${to} within ${LIMIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function play(): Promise<void> {
  const bank = await start('./bank.ts');
  await Promise.all(SHOPS.map((shop) => start('./shop.ts', shop)));
  const now = (): number => performance.timeOrigin + performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  print('bank', `answered ${await tellBank(bank, {})} calls, and goes down`);
  let since = now();
  await tellBank(bank, { isDown: true });
  const opened = await all('open', since);
  const spread = Math.max(...opened) - Math.min(...opened);
  print('all', `open within ${spread.toFixed(1)} ms of each other`);
  await tellBank(bank, {});
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  print('bank', `got ${await tellBank(bank, {})} calls in 3 s that it was down, and is back`);
  since = now();
  await tellBank(bank, { isDown: false });
  await all('closed', since);
  print('all', 'closed: every shop charges again');
}

const redis = process.env['REDIS_URL'] ? undefined : await obtainRedis();
if (redis !== undefined) process.env['REDIS_URL'] = redis.url;
try {
  await play();
} finally {
  const gone = started
    .filter(({ exitCode }) => exitCode === null)
    .map((child) => once(child, 'exit'));
  for (const child of started) if (child.connected) child.disconnect();
  await Promise.all(gone);
  await redis?.stop();
}
