import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';

/** A Lua script: its text and the hash that Redis knows it by. */
export interface Script {
  readonly lua: string;
  readonly sha: string;
}

function read(name: string): string {
  return readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), 'utf8');
}

/** A script with the parts that it shares with others in the place of its `-- @include` lines. */
function load(name: string): Script {
  const lua = read(name).replace(/^-- @include (\w+)$/gm, (_, part: string) => read(`lib/${part}`));
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

/** All scripts; each file's head lists its keys, arguments and answer. */
export const scripts = {
  join: load('join'),
  presence: load('presence'),
  heartbeat: load('heartbeat'),
  register: load('register'),
  change: load('change'),
  unregister: load('unregister'),
  snapshot: load('snapshot'),
  submit: load('submit'),
  confirm: load('confirm'),
  give: load('give'),
  submitOnce: load('submit-once'),
  openInbox: load('open-inbox'),
  closeInbox: load('close-inbox'),
  take: load('take'),
  settle: load('settle'),
  settleGiven: load('settle-given'),
  conclude: load('conclude'),
  concludeOnce: load('conclude-once'),
  postpone: load('postpone'),
  pass: load('pass'),
  bury: load('bury'),
  promote: load('promote'),
  regroup: load('regroup'),
  claim: load('claim'),
  pressure: load('pressure'),
  adopt: load('adopt'),
  inherit: load('inherit'),
  deadRetry: load('dead-retry'),
  release: load('release'),
  cancel: load('cancel'),
  elect: load('elect'),
  resign: load('resign'),
  look: load('look'),
  condemn: load('condemn'),
  circuitRead: load('circuit-read'),
  circuitReport: load('circuit-report'),
  circuitProbe: load('circuit-probe'),
  circuitConclude: load('circuit-conclude'),
  circuitOrder: load('circuit-order'),
  circuitCounts: load('circuit-counts'),
  workflowTell: load('workflow-tell'),
  restartBegin: load('restart-begin'),
  restartKeep: load('restart-keep'),
  restartLeave: load('restart-leave'),
  restartOrder: load('restart-order'),
  restartTake: load('restart-take'),
} as const;

/** Runs a script by its hash; a server that does not know it (first use, restart) gets the text. */
export async function runScript(
  client: Redis,
  script: Script,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  try {
    return await client.evalsha(script.sha, keys.length, ...keys, ...args);
  } catch (error) {
    if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
    return await client.eval(script.lua, keys.length, ...keys, ...args);
  }
}
