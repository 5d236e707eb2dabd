import 'reflect-metadata';
import { Injectable, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { IsInt, IsString } from 'class-validator';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsMetrics,
  FunctionsModule,
} from 'nestjs-functions';
import { conformanceCases } from 'nestjs-functions/conformance';

interface Greeting {
  readonly text: string;
}

@Injectable()
class Greeter {
  @FunctionHandler({ name: 'greet', workflowId: 'pack' })
  greet(input: { name: string }): Greeting {
    return { text: `hello ${input.name}` };
  }
}

class Orders {
  @IsString()
  order!: string;
}

class Invoices {
  @IsInt()
  invoice!: number;
}

/** Two classes of one name, as two folders of an application have them, with a method of one name. */
function handlersOf(name: string, input: new () => object): Type<unknown> {
  @Injectable()
  class Handlers {
    @FunctionHandler({ name, workflowId: 'pack', input })
    run(given: object): string {
      return given.constructor.name;
    }
  }
  return Handlers;
}

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: process.env['REDIS_URL'] ?? 'REDIS_URL is not set',
      keyPrefix: process.env['KEY_PREFIX'] ?? '',
    }),
  ],
  providers: [Greeter, handlersOf('orders', Orders), handlersOf('invoices', Invoices)],
})
class AppModule {}

/** Calls its own functions once, over Redis or in memory. Nothing ends the process: it has to end by itself. */
async function main(): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] });
  const registry = app.get(EnhancedFunctionRegistry);
  const answer = await registry.callFunctionWithInstantReadiness(
    'greet',
    'pack',
    { name: 'x' },
    {},
    5_000,
  );
  const options = { workflowId: 'pack', timeoutMs: 5_000 };
  const inputs = [
    await registry.call('orders', { order: 'x' }, options),
    await registry.call('invoices', { invoice: 1 }, options),
  ];
  // Loads the histograms, which are CommonJS, under either module system.
  const { functions } = await app.get(FunctionsMetrics).snapshot();
  const measured = functions.map(({ functionName }) => functionName).sort();
  await app.close();
  const cases = conformanceCases.length > 0;
  console.log(
    JSON.stringify({ success: answer.success, data: answer.data, inputs, measured, cases }),
  );
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
