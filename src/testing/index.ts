export {
  FunctionsTestingModule,
  type FleetChoice,
  type FunctionsTestingOptions,
} from './functions-testing.module.js';
export { TestFleet, type TestFleetOptions } from './test-fleet.js';
export type { TakeOverOptions } from './take-over.js';
export { TestClock, type ClockMode } from './test-clock.js';
export { FunctionsSpy, SpyTimeoutError, type SpyWaitOptions } from './functions-spy.js';
export type { Selector } from './selector.js';
export type {
  FailedRun,
  HandlerRun,
  SentCall,
  SettledCall,
  SpyEventName,
  SpyEvents,
  SpyRecord,
} from './spy-events.js';
export { FunctionStub, type StubCall, type StubOf } from './function-stub.js';
export type { StubAnswer, StubManner } from './stub-answers.js';
export type { StubSettings } from './stub-settings.js';
