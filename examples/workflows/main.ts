/**
 * A save of two functions, seen as one step, while three workers restart in turn and calls go on.
 * On Redis with REDIS_URL, else in the memory of this process: `npm run example:workflows`.
 */
import 'reflect-metadata';
import { Injectable, Module, type DynamicModule, type OnModuleInit } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
  OnWorkflowEvent,
  WorkflowNotifier,
  type FunctionsOptions,
  type WorkflowEvent,
} from 'nestjs-functions';

const connection = process.env['REDIS_URL'] ?? 'memory://workflows';
const MENU = 'menu';
const logger = ['warn', 'error'] as ('warn' | 'error')[];

/** What a save brings: two functions that have to fit each other. */
const VERSIONS: Readonly<Record<string, { unit: string; perHour: number }>> = {
  v1: { unit: 'kilometres', perHour: 100 },
  v2: { unit: 'miles', perHour: 62 },
};

@Injectable()
class Travel implements OnModuleInit {
  private loaded = VERSIONS['v1'];

  constructor(private readonly workflows: WorkflowNotifier) {}

  /** At the start: the save that this process's workers are registered with, whatever is saved meanwhile. */
  async onModuleInit(): Promise<void> {
    this.load((await this.workflows.loadedGeneration(MENU)).details);
  }

  @FunctionHandler({ name: 'speed', workflowId: MENU })
  speed(): number {
    return this.loaded?.perHour ?? 0;
  }

  @FunctionHandler({ name: 'unit', workflowId: MENU })
  unit(): string {
    return this.loaded?.unit ?? '';
  }

  /** In a restart: no call runs here now, and none comes before this is done. */
  @OnWorkflowEvent('restarting', MENU)
  reload({ details }: WorkflowEvent): void {
    this.load(details);
  }

  private load(details: unknown): void {
    if (typeof details === 'string') this.loaded = VERSIONS[details];
  }
}

@Module({})
class Root {}

const root = (options: FunctionsOptions, hosts: boolean): DynamicModule => ({
  module: Root,
  imports: [FunctionsModule.forRoot({ connection, ...options })],
  providers: hosts ? [Travel] : [],
});

const workers = await Promise.all(
  ['w1', 'w2', 'w3'].map((workerId) =>
    NestFactory.createApplicationContext(root({ workerId }, true), { logger }),
  ),
);
const caller = await NestFactory.createApplicationContext(root({ worker: false }, false), {
  logger,
});
const functions = caller.get(EnhancedFunctionRegistry);
await functions.waitForWorkflow(MENU);

/** Two calls that have to see the same save. */
async function travel(): Promise<string> {
  const menu = await functions.atGeneration(MENU, { generation: 'latest' });
  const first = menu.generation;
  const answers = [await menu.call<number>('speed'), await menu.call<string>('unit')];
  // It moved on between the two: begin anew.
  return menu.generation === first ? answers.join(' ') : travel();
}

const seen = new Map<string, number>();
let ended = false;
const traffic = (async () => {
  while (!ended) {
    const answer = await travel();
    seen.set(answer, (seen.get(answer) ?? 0) + 1);
  }
})();

console.log(`before: ${await travel()} per hour`);
await caller.get(WorkflowNotifier).notifySaved(MENU, 'v2');
await functions.coordinateRestart(MENU, {
  onProgress: ({ phase, done, total }) => console.log(`${phase}: ${done} of ${total}`),
});
console.log(`after: ${await travel()} per hour`);
ended = true;
await traffic;
const mixed = [...seen.keys()].filter((one) => !['100 kilometres', '62 miles'].includes(one));
console.log(
  `${[...seen.values()].reduce((sum, count) => sum + count, 0)} pairs, ${mixed.length} mixed`,
);
for (const app of [caller, ...workers]) await app.close();
