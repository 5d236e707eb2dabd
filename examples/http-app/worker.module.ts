import { Module } from '@nestjs/common';
import { FunctionsModule } from 'nestjs-functions';
import { Renderer } from './renderer.js';

/** Hosts `render`, on the backend that REDIS_URL names when the application is started. */
@Module({
  imports: [FunctionsModule.forRootAsync({ useFactory: () => ({}) })],
  providers: [Renderer],
})
export class WorkerModule {}
