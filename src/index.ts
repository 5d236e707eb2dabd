export {
  FunctionsModule,
  type FunctionsAsyncOptions,
  type FunctionsOptionsFactory,
} from './functions.module.js';
export {
  FunctionsOptions,
  type HealthOptions,
  type RequiredFunction,
} from './functions.options.js';

export {
  EnhancedFunctionRegistry,
  type InstantWorkerStatus,
} from './registry/enhanced-function-registry.js';
export {
  FunctionRegistry,
  type AvailableFunction,
  type CallOutcome,
} from './registry/function-registry.js';
export { Circuit } from './circuit/circuit.js';
export type { CircuitChange, CircuitEvents } from './circuit/circuit-events.js';
export {
  CircuitOptions,
  CircuitPolicy,
  FunctionCircuitOptions,
} from './circuit/circuit-options.js';
export { FunctionCircuits } from './circuit/function-circuits.js';
export { DeadLetters, type DeadLetterPage } from './registry/dead-letters.js';
export type { CallOptions } from './registry/call-options.js';
export { GenerationGroup, type GroupOptions } from './registry/generation-group.js';
export { defineFunction, type FunctionContract } from './registry/function-contract.js';
export {
  FunctionHandler,
  type FunctionHandlerOptions,
  type HandlerSettings,
} from './registry/function-handler.decorator.js';
export { OnWorkflowEvent } from './registry/on-workflow-event.decorator.js';
export type { RetryPolicy } from './execution/worker/retry-policy.js';
export type { InputClass } from './registry/input-class.js';
export { FunctionContext } from './execution/worker/function-context.js';

export {
  NotificationManager,
  type NotificationEvents,
  type NotificationState,
  type NotificationStats,
} from './notifications/notification-manager.js';
export type {
  ChannelListener,
  ChannelMessage,
  Subscription,
} from './notifications/channel-message.js';
export {
  FunctionReadinessWatcher,
  type ReadinessEvents,
  type WaitOptions,
} from './readiness/function-readiness-watcher.js';
export type { WorkerInfo } from './readiness/function-watch.js';
export { FunctionLifecycleNotifier } from './lifecycle/function-lifecycle-notifier.js';
export { WorkerCoordinator } from './lifecycle/worker-coordinator.js';
export type { CoordinatorEvents, CoordinatorState } from './lifecycle/coordinator-events.js';
export type { LocalWorker } from './lifecycle/local-workers.js';
export type { DrainReport } from './lifecycle/work-source.js';

export { WorkflowNotifier, type WorkflowGeneration } from './workflow/workflow-notifier.js';
export type { RestartOptions, RestartProgress, RestartReport } from './workflow/restart-options.js';
export type { WorkflowReadyOptions, WorkflowWorkers } from './workflow/workflow-readiness.js';
export type { WorkflowEvent } from './workflow/workflow-event.js';

export { FunctionsTransport } from './transport/functions-transport.js';
export { FunctionsClientProxy } from './transport/functions-client-proxy.js';
export { FunctionsRpcContext } from './transport/functions-rpc-context.js';
export {
  FunctionsHealthIndicator,
  type FunctionHealth,
} from './health/functions-health-indicator.js';

export { FunctionsMetrics } from './metrics/functions-metrics.js';
export type { MetricsFilter, SnapshotOptions } from './metrics/metrics-filter.js';
export type {
  FleetMetrics,
  FunctionMetrics,
  ProcessFunctionMetrics,
  ProcessMetrics,
} from './metrics/fleet-metrics.js';
export type {
  BacklogBottleneck,
  BottleneckNotification,
  SlowWorkerBottleneck,
  StarvedCallerBottleneck,
} from './protocol/bottleneck.js';
export type { LatencySummary } from './metrics/histograms.js';
export type {
  BacklogMetrics,
  CallerMetrics,
  ErrorCounts,
  LatencyRecord,
  MetricsNotification,
  WorkerMetrics,
} from './protocol/metrics.js';

export type { CircuitCounts } from './backend/circuit-store.js';
export type { CircuitNotification, CircuitState } from './protocol/circuit.js';
export type { CallFailure, DeadLetter } from './protocol/dead-letter.js';
export type { Delivery } from './protocol/call.js';
export type {
  FunctionDefinition,
  ParameterDefinition,
  ParameterType,
} from './protocol/definition.js';
export type { FunctionRef } from './protocol/function-ref.js';
export type {
  HealthNotification,
  Notification,
  OfflineNotification,
  ReadyNotification,
  ShutdownNotification,
} from './protocol/notification.js';
export type { WorkflowEventType, WorkflowNotification } from './protocol/workflow-event.js';
export type { WireError } from './protocol/wire-error.js';
export type { WorkerRecord, WorkerStatus } from './protocol/worker-record.js';

export {
  BackendRefusedError,
  BackendUnavailableError,
  BacklogFullError,
  CallCancelledError,
  CircuitOpenError,
  ClosedError,
  DeadlineExceededError,
  DrainingError,
  DuplicateHandlerError,
  ERROR_CODES,
  FunctionError,
  FunctionsError,
  GenerationGoneError,
  InvalidArgumentError,
  InvalidInputError,
  InvalidNameError,
  InvalidOptionsError,
  InvalidParametersError,
  isFunctionsError,
  MalformedCallError,
  MaxDeliveriesError,
  NoWorkerError,
  OutcomeUnknownError,
  OwnershipLostError,
  PayloadNotSerializableError,
  PayloadTooLargeError,
  ReadinessTimeoutError,
  RemoteFunctionError,
  RestartFailedError,
  RestartInProgressError,
  RestartRefusedError,
  WorkerDisabledError,
  WorkerLostError,
  WorkerNotRegisteredError,
  WorkflowNotReadyError,
  type ErrorCode,
  type ErrorDetails,
  type FunctionsErrorOptions,
  type OptionViolation,
  type ParameterViolation,
  type UnreadyFunction,
} from './common/errors.js';
