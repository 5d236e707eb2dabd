import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import ts from 'typescript';
import * as trend from '../../src/metrics/backlog-trend.js';
import { STARVED_MS } from '../../src/metrics/bottleneck-detector.js';
import { MAX_FUNCTIONS } from '../../src/metrics/watched-functions.js';
import { FORGET_MS, MAX_REPORTS } from '../../src/metrics/fleet-view.js';
import { PUBLISHED_AT_ONCE } from '../../src/metrics/metrics-publisher.js';
import * as peers from '../../src/metrics/peer-comparison.js';
import { MAX_MEASURED } from '../../src/metrics/process-meter.js';
import { FAMILIES } from '../../src/metrics/prometheus-families.js';
import { VITALS_INTERVAL_MS } from '../../src/metrics/vitals-reporter.js';
import { MAX_ERROR_CODES } from '../../src/protocol/metrics.js';
import { bare, readText, rootPath, tableRows } from './markdown.js';

const text = readText('docs/metrics.md');
const flat = text.replace(/\s+/g, ' ');
const BEFORE = `
import { Controller, Get, Sse, type MessageEvent } from '@nestjs/common';
import { map, type Observable } from 'rxjs';
import { FunctionsModule, FunctionsMetrics, type FleetMetrics } from 'nestjs-functions';
declare const metrics: FunctionsMetrics;
`;

describe('docs/metrics.md', () => {
  const folder = ((): string => {
    mkdirSync(rootPath('.cache'), { recursive: true });
    return mkdtempSync(join(rootPath('.cache'), 'metrics-'));
  })();
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('lists every metric of Prometheus with its type, and no other', () => {
    const told = tableRows(text, 'metric').map((row) => [bare(row['metric']), row['type']]);
    const made = FAMILIES.map(({ name, type }) => [name, type]);
    const ofProcess = [
      ['nestjs_functions_event_loop_lag_seconds', 'gauge'],
      ['nestjs_functions_unmeasured_total', 'counter'],
      ['nestjs_functions_messages_dropped_total', 'counter'],
    ];
    expect(told).toEqual([...made, ...ofProcess]);
  });

  it('names metrics by their conventions', () => {
    const ending = { counter: /_total$/, histogram: /_seconds$/, gauge: /(?<!_total)$/ };
    for (const { name, type } of FAMILIES) {
      expect(name).toMatch(/^nestjs_functions_[a-z_]+$/);
      expect(name).toMatch(ending[type]);
    }
  });

  it('lists every figure of a function', () => {
    const source = readText('src/metrics/fleet-metrics.ts');
    const body = /export interface FunctionMetrics \{([^]*?)\n\}/.exec(source)?.[1] ?? '';
    const fields = [...body.matchAll(/readonly (\w+):/g)].map(([, name]) => name);
    const told = tableRows(text, 'figure').flatMap((row) => bare(row['figure']).split(', '));
    expect(['functionName', 'workflowId', ...told].sort()).toEqual([...fields].sort());
  });

  it('says the thresholds and bounds that hold', () => {
    const kinds = Object.fromEntries(
      tableRows(text, 'kind').map((row) => [bare(row['kind']), row]),
    );
    const sentence = (kind: string): string =>
      kinds[kind]?.['it begins when, in looks in a row'] ?? '';
    const share = `${trend.MIN_GROWTH_SHARE * 100} %`;
    for (const part of [`${trend.MIN_GROWTH_PER_SECOND} calls a second`, share])
      expect(sentence('backlog')).toContain(part);
    expect(sentence('backlog')).toContain(`${trend.MIN_WAITING} or more have no worker`);
    expect(sentence('backlog')).toContain(`${trend.MIN_AGE_MS} ms`);
    expect(sentence('slow-worker')).toContain(`${peers.SLOW_FACTOR} times`);
    expect(sentence('slow-worker')).toContain(`${peers.MIN_EXCESS_MS} ms longer`);
    expect(sentence('slow-worker')).toContain(`${peers.MIN_RUNS} runs`);
    expect(sentence('starved-caller')).toContain(`${STARVED_MS} ms`);
    const looks = Object.values(kinds).map((row) => row['looked at each']);
    expect(looks).toEqual([
      `${trend.SAMPLE_INTERVAL_MS} ms, 3 looks`,
      `${VITALS_INTERVAL_MS} ms, 2 looks`,
      `${VITALS_INTERVAL_MS} ms, 2 looks`,
    ]);
    for (const part of [
      `measures ${MAX_MEASURED.toLocaleString('en')} functions`,
      `reports ${PUBLISHED_AT_ONCE} functions a second`,
      `${MAX_ERROR_CODES} error codes`,
      `holds ${MAX_REPORTS.toLocaleString('en')} reports`,
      `At most ${MAX_FUNCTIONS} functions`,
      'not heard for five seconds',
    ])
      expect(flat).toContain(part);
    expect(FORGET_MS).toBe(5_000);
  });

  it('has code that compiles', () => {
    const blocks = [...text.matchAll(/^```ts\n([^]*?)^```/gm)].map(([, code]) => code ?? '');
    const file = join(folder, 'snippets.ts');
    writeFileSync(file, BEFORE + blocks.join('\n'));
    const { config } = ts.readConfigFile(rootPath('tsconfig.json'), (path) =>
      ts.sys.readFile(path),
    ) as { config: object };
    const { options } = ts.parseJsonConfigFileContent(
      { ...config, include: [], files: [file] },
      ts.sys,
      rootPath(''),
    );
    const problems = ts
      .getPreEmitDiagnostics(ts.createProgram([file], options))
      .filter((problem) => problem.file === undefined || problem.file.fileName === file)
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
    expect(problems).toEqual([]);
  }, 60_000);
});
