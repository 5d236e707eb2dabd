import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { checkLayers } from '../../tools/check-layers.mjs';

const checker = fileURLToPath(new URL('../../tools/check-layers.mjs', import.meta.url));
const realSrc = fileURLToPath(new URL('../../src', import.meta.url));

/** A tree in which every rule is used and none is broken. */
const sound = {
  'common/text.ts': 'export const text = 1;',
  'protocol/names.ts': "import { text } from '../common/text.js';\nexport const name = text;",
  'backend/store.ts':
    "import { name } from '../protocol/names.js';\nexport type Store = typeof name;",
  'backend/redis/redis-store.ts':
    "import { Redis } from 'ioredis';\nimport type { Store } from '../store.js';\nexport class RedisStore { redis = Redis; store?: Store; }",
  'backend/memory/memory-store.ts':
    "import type { Store } from '../store.js';\nexport class MemoryStore { store?: Store; }",
  'backend/backend-factory.ts':
    "import { RedisStore } from './redis/redis-store.js';\nexport const create = () => RedisStore;",
  'notifications/manager.ts':
    "import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';\nexport const used = [Injectable, Logger];\nexport type Hook = OnModuleDestroy;",
  'registry/explorer.ts':
    "import { DiscoveryService } from '@nestjs/core';\nexport { DiscoveryService };",
  'health/controller.ts': "import { Controller } from '@nestjs/common';\nexport { Controller };",
  'metrics/histograms.ts': "import { build } from 'hdr-histogram-js';\nexport { build };",
  'tracing/spans.ts': "import { trace } from '@opentelemetry/api';\nexport { trace };",
  'functions.module.ts':
    "import { RedisStore } from './backend/redis/redis-store.js';\nimport { Module } from '@nestjs/common';\nexport const parts = [RedisStore, Module];",
  'index.ts': "export { parts } from './functions.module.js';",
};

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'layers-'));
});

afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

function write(files: Record<string, string>): string {
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    writeFileSync(join(dir, file), text);
  }
  return dir;
}

function runChecker(folder: string): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [checker, folder], (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
  });
}

describe('the layer check', () => {
  it('accepts a tree that keeps every rule', () => {
    expect(checkLayers(write(sound))).toEqual([]);
  });

  it.each([
    {
      rule: 'layer',
      what: 'an import upwards',
      file: 'common/clock.ts',
      text: "\nimport { name } from '../protocol/names.js';\nexport const used = name;",
      line: 2,
    },
    {
      rule: 'layer',
      what: 'an import sideways',
      file: 'transport/strategy.ts',
      text: "import { Controller } from '../health/controller.js';\nexport { Controller };",
      line: 1,
    },
    {
      rule: 'layer',
      what: 'an import upwards of nothing but a type',
      file: 'protocol/packet.ts',
      text: "export type Packet = import('../notifications/manager.js').Hook;",
      line: 1,
    },
    {
      rule: 'layer',
      what: 'a dynamic import upwards',
      file: 'readiness/watcher.ts',
      text: "export const load = () =>\n  import('../registry/explorer.js');",
      line: 2,
    },
    {
      rule: 'layer',
      what: 'a re-export upwards',
      file: 'common/all.ts',
      text: "export * from '../protocol/names.js';",
      line: 1,
    },
    {
      rule: 'layer',
      what: 'an import of the testing kit',
      file: 'functions.options.ts',
      text: "import { kit } from './testing/kit.js';\nexport const used = kit;",
      line: 1,
    },
    {
      rule: 'backend',
      what: 'a backend that imports the other backend',
      file: 'backend/memory/other.ts',
      text: "import { RedisStore } from '../redis/redis-store.js';\nexport { RedisStore };",
      line: 1,
    },
    {
      rule: 'backend',
      what: 'a feature that imports a backend',
      file: 'lifecycle/coordinator.ts',
      text: "import { RedisStore } from '../backend/redis/redis-store.js';\nexport { RedisStore };",
      line: 1,
    },
    {
      rule: 'backend',
      what: 'a contract file that imports a backend',
      file: 'backend/streams.ts',
      text: "export { RedisStore } from './redis/redis-store.js';",
      line: 1,
    },
    {
      rule: 'ioredis',
      what: 'ioredis outside of backend/redis',
      file: 'functions.options.ts',
      text: "import type { RedisOptions } from 'ioredis';\nexport type Options = RedisOptions;",
      line: 1,
    },
    {
      rule: 'package',
      what: 'prom-client outside of metrics',
      file: 'health/prometheus.ts',
      text: "import { Registry } from 'prom-client';\nexport { Registry };",
      line: 1,
    },
    {
      rule: 'package',
      what: 'OpenTelemetry outside of tracing',
      file: 'execution/caller/span.ts',
      text: "import type { Span } from '@opentelemetry/api';\nexport type { Span };",
      line: 1,
    },
    {
      rule: 'nest',
      what: 'a Nest package below the registry',
      file: 'execution/worker/executor.ts',
      text: "import { ModuleRef } from '@nestjs/core';\nexport { ModuleRef };",
      line: 1,
    },
    {
      rule: 'nest',
      what: 'more of @nestjs/common than is allowed below the registry',
      file: 'execution/worker/executor.ts',
      text: "import { Injectable, HttpException } from '@nestjs/common';\nexport { Injectable, HttpException };",
      line: 1,
    },
    {
      rule: 'nest',
      what: 'all of @nestjs/common below the registry',
      file: 'execution/caller/caller.ts',
      text: "import * as nest from '@nestjs/common';\nexport { nest };",
      line: 1,
    },
    {
      rule: 'barrel',
      what: 'an import of a barrel',
      file: 'extra.ts',
      text: "import { parts } from './index.js';\nexport { parts };",
      line: 1,
    },
    {
      rule: 'barrel',
      what: 'an import of the package by its own name',
      file: 'extra.ts',
      text: "import { parts } from 'nestjs-functions';\nexport { parts };",
      line: 1,
    },
    {
      rule: 'folder',
      what: 'a folder without a rank',
      file: 'utils/misc.ts',
      text: 'export const misc = 1;',
      line: 1,
    },
  ])('finds $what', ({ rule, file, text, line }) => {
    const extra = { 'testing/kit.ts': 'export const kit = 1;', [file]: text };

    const violations = checkLayers(write({ ...sound, ...extra }));

    expect(violations).toEqual([expect.objectContaining({ rule, file, line })]);
  });

  it('finds a cycle of files in one folder, made of types only', () => {
    write({
      ...sound,
      'protocol/a.ts': "import type { B } from './b.js';\nexport type A = B;",
      'protocol/b.ts': "import type { C } from './c.js';\nexport type B = C;",
      'protocol/c.ts': "import type { A } from './a.js';\nexport type C = A;",
    });

    expect(checkLayers(dir)).toEqual([
      expect.objectContaining({
        rule: 'cycle',
        file: 'protocol/a.ts',
        message: 'protocol/a.ts -> protocol/b.ts -> protocol/c.ts -> protocol/a.ts',
      }),
    ]);
  });

  it('fails as a command with file, line and cure', async () => {
    write({ ...sound, 'common/clock.ts': "export { name } from '../protocol/names.js';" });

    const { code, stderr } = await runChecker(dir);

    expect(code).toBe(1);
    expect(stderr).toMatch(/common\/clock\.ts:1 {2}layer: common \(rank 0\) imports up/);
    expect(stderr).toContain('cure:');
  });

  it('passes on the sources of this library', () => {
    expect(checkLayers(realSrc)).toEqual([]);
  });
});
