import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EnhancedFunctionRegistry, FunctionHandler, FunctionsModule } from 'nestjs-functions';

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

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: process.env['REDIS_URL'] ?? 'REDIS_URL is not set',
      keyPrefix: process.env['KEY_PREFIX'] ?? '',
    }),
  ],
  providers: [Greeter],
})
class AppModule {}

/** Calls its own function once over Redis. Nothing ends the process: it has to end by itself. */
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
  await app.close();
  console.log(JSON.stringify({ success: answer.success, data: answer.data }));
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
