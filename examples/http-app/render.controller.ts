import {
  Body,
  Controller,
  Get,
  HttpCode,
  Post,
  ServiceUnavailableException,
  ValidationPipe,
} from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  isFunctionsError,
  type AvailableFunction,
  type InstantWorkerStatus,
} from 'nestjs-functions';
import { render, RenderInput, type RenderResult } from './render.contract.js';

/** The caller's side: a controller that injects the registry. */
@Controller()
export class RenderController {
  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  /** Waits for a worker for up to 5 s: a deploy or a restart of the workers is not seen from outside. */
  @Post('render')
  @HttpCode(200)
  async render(@Body(new ValidationPipe()) input: RenderInput): Promise<RenderResult> {
    try {
      return await this.functions.call(render, input, { readinessTimeoutMs: 5_000 });
    } catch (error) {
      if (isFunctionsError(error) && error.retryable)
        throw new ServiceUnavailableException({ code: error.code, message: error.message });
      throw error;
    }
  }

  /** Who can run it, from memory. */
  @Get('status')
  async status(): Promise<InstantWorkerStatus & { readonly functions: AvailableFunction[] }> {
    const status = await this.functions.getInstantWorkerStatus(render.name, 'example');
    return { ...status, functions: await this.functions.getAvailableFunctions('example') };
  }
}
