import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { ExampleProcess } from '../examples/example-process.js';
import { typeErrors } from './type-errors.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
  peerDependencies: Record<string, string>;
  peerDependenciesMeta: Record<string, { optional?: boolean }>;
  dependencies?: Record<string, string>;
};

/** The code blocks of a language, in order. */
function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    (match) => match[1] ?? '',
  );
}

const [example = '', ...snippets] = blocks('ts');

/** What the snippets take for granted. */
const PRELUDE = `
import {
  ArgumentsHost, Body, Catch, Controller, HttpException, Injectable, Module, Post,
} from '@nestjs/common';
import { BaseExceptionFilter, NestFactory } from '@nestjs/core';
import { expect, it } from '@jest/globals';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { IsInt, IsUrl, Max } from 'class-validator';
import {
  defineFunction, EnhancedFunctionRegistry, FunctionContext, FunctionHandler, FunctionsError, FunctionsModule,
  FunctionsTransport, type FunctionsMetrics,
  isFunctionsError, type FunctionLifecycleNotifier, type NotificationManager,
} from 'nestjs-functions';
import { FunctionsTestingModule, TestFleet } from 'nestjs-functions/testing';
declare class ConfigService { getOrThrow(key: string): string; }
declare const functions: EnhancedFunctionRegistry;
declare const metrics: FunctionsMetrics;
declare const notifier: FunctionLifecycleNotifier;
declare const notifications: NotificationManager;
declare const [url, placeholder, broken]: string[];
declare const item: unknown;
declare const signal: AbortSignal;
declare function store(image: Response, width: number): Promise<string>;
`;

/** A snippet that exports is module code; another one is the inside of a function. */
function program(): string {
  const inside = (code: string, index: number): string =>
    `async function snippet${index}(): Promise<unknown> {\n${code}\nreturn undefined;\n}`;
  const parts = snippets.map((code, index) =>
    code.includes('export ') ? code : inside(code, index),
  );
  return [PRELUDE, ...parts].join('\n');
}

describe('the README', () => {
  let folder: string;

  beforeAll(() => {
    // Inside the checkout, so that packages are found.
    mkdirSync(join(ROOT, '.cache'), { recursive: true });
    folder = mkdtempSync(join(ROOT, '.cache/readme-'));
    writeFileSync(join(folder, 'hello.ts'), example);
    writeFileSync(join(folder, 'snippets.ts'), program());
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('has code that compiles', () => {
    const files = ['hello.ts', 'snippets.ts'].map((name) => join(folder, name));
    expect(typeErrors(files)).toEqual([]);
  }, 60_000);

  it('names its two commands first, and only scripts that exist', () => {
    const [first] = blocks('sh');
    expect(first).toContain('npm ci && npm run demo');
    expect(first).toContain('npm ci && npm test');
    const named = [...readme.matchAll(/npm run ([\w:-]+)/g)].map((match) => match[1] ?? '');
    expect(named.filter((name) => manifest.scripts[name] === undefined)).toEqual([]);
    expect(manifest.scripts['test']).toBeDefined();
  });

  it('installs every peer that is needed, and there is nothing else to install', () => {
    // Redis comes first in the README; what else is optional stands where it is needed.
    const { ioredis: _, ...optional } = manifest.peerDependenciesMeta;
    const peers = Object.keys(manifest.peerDependencies)
      .filter((name) => optional[name]?.optional !== true)
      .sort();
    const installs = blocks('sh')
      .map((block) => block.replaceAll('\\\n', ' '))
      .flatMap((block) => [...block.matchAll(/^npm i (nestjs-functions .*)$/gm)])
      .map((match) => (match[1] ?? '').split(/\s+/).slice(1).sort());
    expect(installs).toEqual([peers, peers]);
    // What circuits and metrics load when they are used.
    expect(manifest.dependencies).toEqual({ cockatiel: '3.2.1', 'hdr-histogram-js': '3.0.1' });
  });

  it('links to files and headings that exist', () => {
    const links = [...readme.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '');
    const headings = [...readme.matchAll(/^#+ (.+)$/gm)].map(
      (match) => `#${(match[1] ?? '').toLowerCase().replaceAll(' ', '-')}`,
    );
    const broken = links
      .filter((link) => !link.startsWith('http'))
      .filter((link) =>
        link.startsWith('#') ? !headings.includes(link) : !existsSync(join(ROOT, link)),
      );
    expect(broken).toEqual([]);
  });

  describe('its example', () => {
    // One of its own: the example has no key prefix.
    let redis: StartedRedis;
    const running: ExampleProcess[] = [];

    beforeAll(async () => {
      redis = await startRedis();
    });

    afterEach(async () => {
      await Promise.all(running.splice(0).map((one) => one.stop('SIGKILL')));
    });

    afterAll(() => redis.stop());

    function start(...args: string[]): ExampleProcess {
      const one = new ExampleProcess(join(folder, 'hello.ts'), args, { REDIS_URL: redis.url });
      running.push(one);
      return one;
    }

    it('waits for its worker, gets its answer, and ends; the worker ends on SIGTERM', async () => {
      const caller = start();
      await caller.printed(/calling; without a worker/);
      const worker = start('worker');
      await worker.printed(/worker active/);
      const answer = await caller.printed(/Hello you, from process (\d+)/);
      expect(answer[1]).toBe(String(worker.pid));
      expect(await caller.exit()).toBe(0);
      expect(await worker.stop()).toBe('SIGTERM');
    }, 60_000);

    it('does not call a worker ready that has no Redis', async () => {
      const env = { REDIS_URL: 'redis://127.0.0.1:1' };
      const worker = new ExampleProcess(join(folder, 'hello.ts'), ['worker'], env);
      running.push(worker);
      await worker.printed(/worker joining/);
      const [text] = await worker.printed(/got no answer from Redis at redis:\/\/127\.0\.0\.1:1/);
      expect(text).toContain('no answer');
    }, 60_000);
  });
});
