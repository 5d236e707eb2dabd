import { Controller, Get, Inject, type Type } from '@nestjs/common';
import { HealthCheck, HealthCheckService, type HealthCheckResult } from '@nestjs/terminus';
import { FunctionsHealthIndicator } from './functions-health-indicator.js';

/** The ready-made controller for `GET path`, `path/live`, `path/ready` and `path/startup`. */
export function createHealthController(path: string): Type<unknown> {
  @Controller(path)
  class FunctionsHealthController {
    constructor(
      @Inject(HealthCheckService) private readonly health: HealthCheckService,
      @Inject(FunctionsHealthIndicator) private readonly functions: FunctionsHealthIndicator,
    ) {}

    @Get()
    @HealthCheck({ swaggerDocumentation: false })
    check(): Promise<HealthCheckResult> {
      return this.health.check([() => this.functions.check('functions')]);
    }

    @Get('live')
    @HealthCheck({ swaggerDocumentation: false })
    live(): Promise<HealthCheckResult> {
      return this.health.check([() => this.functions.live('functions')]);
    }

    @Get('ready')
    @HealthCheck({ swaggerDocumentation: false })
    ready(): Promise<HealthCheckResult> {
      return this.health.check([() => this.functions.ready('functions')]);
    }

    @Get('startup')
    @HealthCheck({ swaggerDocumentation: false })
    startup(): Promise<HealthCheckResult> {
      return this.health.check([() => this.functions.startup('functions')]);
    }
  }
  return FunctionsHealthController;
}
