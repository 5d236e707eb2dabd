/**
 * A process of the tests that only listens, until it is killed: `LISTENS` to `metrics` or `bottlenecks` of all functions
 * with this library, or without it to the `channel` or `pattern` of metrics, or the `bottleneck channel`. It says when it
 * hears metrics.
 */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Redis } from 'ioredis';
import { FunctionsMetrics, FunctionsModule } from '../../src/index.js';

const { REDIS_URL: connection = '', KEY_PREFIX: keyPrefix = '', LISTENS: what = '' } = process.env;
const tell = (message: object): void => void process.send?.(message);

@Module({
  imports: [FunctionsModule.forRoot({ connection, keyPrefix, worker: false, supervise: false })],
})
class ListenerModule {}

async function observe(): Promise<void> {
  const app = await NestFactory.createApplicationContext(ListenerModule, {
    logger: ['error', 'warn'],
  });
  const metrics = app.get(FunctionsMetrics);
  if (what === 'bottlenecks') metrics.bottlenecks().subscribe();
  else
    metrics.watch().subscribe(({ functions }) => {
      if (functions.length > 0) tell({ type: 'heard' });
    });
}

async function subscribe(): Promise<void> {
  const stock = new Redis(connection);
  const heard = (text: string): void => {
    if (text.includes('"type":"metrics"')) tell({ type: 'heard' });
  };
  stock.on('message', (_channel, text) => heard(text));
  stock.on('pmessage', (_pattern, _channel, text) => heard(text));
  if (what === 'bottleneck channel')
    await stock.subscribe(`${keyPrefix}function:bottleneck:work:default`);
  else if (what === 'channel') await stock.subscribe(`${keyPrefix}function:metrics:work:default`);
  else await stock.psubscribe(`${keyPrefix}function:metrics:*`);
}

await (what === 'metrics' || what === 'bottlenecks' ? observe() : subscribe());
tell({ type: 'listens' });
