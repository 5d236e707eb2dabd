import 'reflect-metadata';
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { defineFunction, EnhancedFunctionRegistry, FunctionsModule } from 'nestjs-functions';
import { FunctionsTestingModule, TestFleet } from 'nestjs-functions/testing';

// A user's own tests, with the testing kit out of the package: run by Jest as such a project has it.

const resize = defineFunction<{ width: number }, { url: string }>({ name: 'resize' });

@Controller('images')
class ImagesController {
  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  @Get()
  small(): Promise<{ url: string }> {
    return this.functions.call(resize, { width: 80 }, { timeoutMs: 60_000 });
  }
}

@Module({
  imports: [FunctionsModule.forRoot({ connection: 'redis://127.0.0.1:1' })],
  controllers: [ImagesController],
})
class AppModule {}

describe('a controller that calls a function', () => {
  it('is tested alone', async () => {
    const module = await Test.createTestingModule({
      imports: [FunctionsTestingModule.forRoot()],
      controllers: [ImagesController],
    }).compile();
    await module.init();
    await module.get(TestFleet).stub(resize, ({ width }) => ({ url: `/${width}.png` }));
    expect(await module.get(ImagesController).small()).toEqual({ url: '/80.png' });
    await module.close();
  });

  it('is tested in its application, with deadlines and dying workers', async () => {
    const fleet = new TestFleet({ clock: 'frozen' });
    const app = await fleet.start(Test.createTestingModule({ imports: [AppModule] }));
    const images = app.get(ImagesController);
    const stub = await fleet.stub(resize);
    stub.hang();

    const late = images.small().catch((error: { code?: string }) => error.code);
    await fleet.clock.advance(60_000);
    expect(await late).toBe('DEADLINE_EXCEEDED');

    const handedOver = images.small();
    await fleet.spy.waitFor('started', resize, { times: 2 });
    await fleet.stub(resize, { url: '/second.png' }, { workerId: 'second' });
    await stub.die();
    expect(await handedOver).toEqual({ url: '/second.png' });
    await fleet.close();
  });
});
