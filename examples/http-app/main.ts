import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { APP_FILTER, NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { FunctionsModule } from 'nestjs-functions';
import { Company } from './company.js';
import { FunctionsErrorFilter } from './functions-error.filter.js';
import { render } from './render.contract.js';
import { RenderController } from './render.controller.js';

/** `npm run example` brings its own workers; in a container they are services of their own. */
const ALONE = process.env['npm_lifecycle_event'] === 'example';
const WORKERS = Number(process.env['WORKERS'] ?? (ALONE ? 2 : 0));

@Module({
  imports: [
    FunctionsModule.forRootAsync({
      // Not ready without a worker of `render`.
      health: { required: [{ functionName: render.name, workflowId: 'example' }] },
      useFactory: () => ({ worker: false }),
    }),
  ],
  controllers: [RenderController],
  providers: [{ provide: APP_FILTER, useClass: FunctionsErrorFilter }],
})
class AppModule {}

async function main(company: Company): Promise<void> {
  await company.bringBackend();
  const workers = company.startWorkers(WORKERS);
  workers.catch(() => undefined); // awaited below, when the server listens
  const app = await NestFactory.create<NestExpressApplication>(AppModule, {
    logger: ['log', 'warn', 'error'],
  });
  // Nobody else's business: a container, whose ports are its own, sets HOST.
  await app.listen(process.env['PORT'] ?? 3000, process.env['HOST'] ?? '127.0.0.1');
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void leave(app, company));
  await workers;
  printCommands(await app.getUrl(), company);
}

/** This process first, while its calls can still be answered; then the workers and Redis. */
async function leave(app: NestExpressApplication, company: Company): Promise<void> {
  console.log(
    '\nEnding: first this server, then the workers, which finish what they run. Again: at once.',
  );
  company.prepareToLeave();
  await app.close();
  await company.leave();
  console.log('Ended.');
  process.exit(0);
}

function printCommands(address: string, company: Company): void {
  const url = address.replace('[::1]', 'localhost').replace('0.0.0.0', 'localhost');
  const [pid] = company.pids;
  console.log(`
Try:
  curl -s ${url}/render -H 'content-type: application/json' -d '{"markdown":"# Hello *you*"}'
  curl -s ${url}/render -H 'content-type: application/json' -d '{"markdown":7,"speed":"fast"}'   # 400
  curl -s ${url}/status
  curl -si ${url}/health/ready`);
  if (pid !== undefined) {
    console.log(`  kill -TERM ${company.pids.join(' ')}     # the workers; then call again, and start one:
  REDIS_URL=${process.env['REDIS_URL']} node --import ./tools/register-ts.mjs examples/http-app/worker.ts`);
  }
  console.log('\nCtrl-C ends it.');
}

const company = new Company();
main(company).catch(async (error: unknown) => {
  console.error(company.hasBackend ? error : (error as Error).message);
  await company.leave();
  process.exit(1);
});
