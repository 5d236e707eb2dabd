import type { Provider } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  FunctionsTestingModule,
  type FunctionsTestingOptions,
  type TestFleet,
} from 'nestjs-functions/testing';

/** An application of a fleet, with these providers; it is closed with the fleet. */
export function member(
  fleet: TestFleet,
  providers: Provider[] = [],
  options: FunctionsTestingOptions = {},
): Promise<TestingModule> {
  const imports = [FunctionsTestingModule.forRoot({ fleet, ...options })];
  return fleet.start(Test.createTestingModule({ imports, providers }));
}
