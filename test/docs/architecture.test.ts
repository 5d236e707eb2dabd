import { describe, expect, it } from '@jest/globals';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { WORKFLOW_EVENTS } from '../../src/protocol/workflow-event.js';
import { bare, filesBelow, linksOf, readText, tableRows } from './markdown.js';

const text = readText('docs/architecture.md');
const links = linksOf(text);

/** Ranks as the checker of layers has them, folders that exist only. */
function ranks(): Record<string, string> {
  const table = /new Map\(\[([^]*?)\]\);/.exec(readText('tools/check-layers.mjs'))?.[1] ?? '';
  const all = [...table.matchAll(/\['([^']+)', ([\d.]+)\]/g)].map(
    ([, folder = '', rank = '']) => [folder === '.' ? 'src' : `src/${folder}`, rank] as const,
  );
  const files = filesBelow('src', /\.ts$/);
  return Object.fromEntries(
    all.filter(([folder]) => files.some((file) => file.startsWith(`${folder}/`))),
  );
}

describe('docs/architecture.md', () => {
  it('gives every folder its rank', () => {
    const told = tableRows(text, 'rank').map((row) => {
      const target = /\(\.\.\/([^)]+)\)/.exec(row['folder'] ?? '')?.[1] ?? '';
      return [target === 'src/functions.module.ts' ? 'src' : target, row['rank']] as const;
    });
    expect(Object.fromEntries(told)).toEqual(ranks());
  });

  it('lists every key, and no other', () => {
    const keys = new Keys('');
    const ref = functionRef('functionName', 'workflowId');
    const all = [
      keys.calls(ref),
      keys.delayed(ref),
      keys.aside(ref),
      keys.once(ref, 'idempotencyKey'),
      keys.bells(ref),
      keys.deadLetters(ref),
      keys.workers(ref),
      keys.definition(ref),
      keys.lastEpoch(ref),
      keys.circuit(ref),
      keys.circuitCounts(ref),
      keys.workflow('workflowId'),
      keys.generation('workflowId'),
      keys.restart('workflowId'),
      keys.lease('sessionId'),
      keys.hosted('sessionId'),
      keys.replies('processId'),
      keys.grave('sessionId'),
      keys.poolDue('poolId'),
      keys.poolWake('poolId'),
      keys.poolOffers('poolId'),
      keys.inbox('sessionId'),
      keys.given('sessionId'),
      keys.delayedFunctions(),
      keys.unclaimed(),
      keys.processes(),
      keys.supervisor(),
      keys.deputy(),
    ];
    expect(
      tableRows(text, 'key')
        .map((row) => bare(row['key']))
        .sort(),
    ).toEqual(all.sort());
  });

  it('lists every channel, and no other', () => {
    const keys = new Keys('');
    const all = [
      ...keys.channels(functionRef('functionName', 'workflowId')),
      keys.circuitChannel(functionRef('functionName', 'workflowId')),
      ...WORKFLOW_EVENTS.map((type) => keys.workflowChannel(type, 'workflowId')),
      keys.control('sessionId'),
      keys.telemetry('metrics', functionRef('functionName', 'workflowId')),
      keys.telemetry('bottleneck', functionRef('functionName', 'workflowId')),
      keys.listeners(),
      keys.vitals(),
    ];
    expect(tableRows(text, 'channel').map((row) => bare(row['channel']))).toEqual(all);
  });

  it('knows every method that spells a key or a channel', () => {
    const spelled = [...readText('src/protocol/keys.ts').matchAll(/^ {2}(\w+)\([^)]*\): string/gm)];
    expect(spelled.map(([, name]) => name).sort()).toEqual(
      [
        ...['calls', 'workers', 'definition', 'deadLetters', 'lastEpoch', 'workflow', 'lease'],
        ...['hosted', 'replies', 'control', 'processes', 'supervisor', 'channel', 'channels'],
        ...['delayed', 'aside', 'once', 'bells', 'grave', 'pool', 'poolDue', 'poolWake', 'deputy'],
        ...['given', 'inbox', 'poolOffers', 'circuit', 'circuitCounts', 'circuitChannel'],
        ...['generation', 'restart', 'workflowChannel'],
        ...['delayedFunctions', 'unclaimed', 'unprefixed', 'prefixedPattern', 'unprefixedPattern'],
        ...['telemetry', 'allTelemetry', 'listeners', 'vitals'],
      ].sort(),
    );
  });

  it.each(['A call', "A worker's life"])('links each step to a file: %s', (heading) => {
    const section = text.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
    const steps = section.split(/^\d+\. /m).slice(1);
    expect(steps.length).toBeGreaterThanOrEqual(7);
    const withoutLink = steps
      .map((step, index) => ({ step: index + 1, files: linksOf(step) }))
      .filter(({ files }) => files.length === 0);
    expect(withoutLink).toEqual([]);
  });

  it.each(filesBelow('src/backend/redis/scripts', /\.lua$/))(
    'says what a script is for: %s',
    (path) => {
      expect(links).toContain(`../${path}`);
    },
  );
});
