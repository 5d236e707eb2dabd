import { Body, Controller, Get, HttpCode, Post, ValidationPipe } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  type AvailableFunction,
  type InstantWorkerStatus,
} from 'nestjs-functions';
import { render, RenderInput, type RenderResult } from './render.contract.js';

/** A client's mistake is answered with 400 here, before anything is called. */
const CHECKED = new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true });

/** The caller's side: a controller that injects the registry. What a call fails with, FunctionsErrorFilter answers. */
@Controller()
export class RenderController {
  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  /** Waits for a worker for up to 5 s: a deploy or a restart of the workers is not seen from outside. */
  @Post('render')
  @HttpCode(200)
  render(@Body(CHECKED) input: RenderInput): Promise<RenderResult> {
    return this.functions.call(render, input, { readinessTimeoutMs: 5_000 });
  }

  /** Who can run it, from memory. */
  @Get('status')
  async status(): Promise<InstantWorkerStatus & { readonly functions: AvailableFunction[] }> {
    const status = await this.functions.getInstantWorkerStatus(render.name, 'example');
    return { ...status, functions: await this.functions.getAvailableFunctions('example') };
  }
}
