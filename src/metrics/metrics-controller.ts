import { Controller, Get, Header, Inject, type Type } from '@nestjs/common';
import { FunctionsPrometheus } from './functions-prometheus.js';

/** What Prometheus expects of its text format. */
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** The ready-made controller for Prometheus, `GET path`. */
export function createMetricsController(path: string): Type<unknown> {
  @Controller(path)
  class FunctionsMetricsController {
    constructor(@Inject(FunctionsPrometheus) private readonly prometheus: FunctionsPrometheus) {}

    @Get()
    @Header('Content-Type', CONTENT_TYPE)
    @Header('Cache-Control', 'no-store')
    metrics(): Promise<string> {
      return this.prometheus.text();
    }
  }
  return FunctionsMetricsController;
}
