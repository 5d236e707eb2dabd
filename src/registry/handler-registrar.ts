import { Inject, Injectable } from '@nestjs/common';
import { SETTINGS } from '../backend/tokens.js';
import type { Settings } from '../common/settings.js';
import { CallProbes } from '../execution/call-probes.js';
import { CallConsumer } from '../execution/worker/call-consumer.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { encodeDefinition, type FunctionDefinition } from '../protocol/definition.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import { parametersOf } from './definition-from-class.js';
import type { HandlerMetadata } from './function-handler.decorator.js';
import { HandlerExplorer, type FoundHandler } from './handler-explorer.js';

/** Gives what the explorer finds to the consumer and the coordinator. */
@Injectable()
export class HandlerRegistrar {
  constructor(
    @Inject(HandlerExplorer) private readonly explorer: HandlerExplorer,
    @Inject(CallConsumer) private readonly consumer: CallConsumer,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CallProbes) private readonly probes: CallProbes,
  ) {}

  /**
   * Hosts every decorated handler; before the coordinator starts.
   *
   * @throws DuplicateHandlerError
   */
  registerAll(): void {
    if (!this.settings.worker) return;
    this.coordinator.host(this.explorer.explore().map((handler) => this.host(handler)));
  }

  /** Whether a handler of this function will be hosted; for a process that has not begun to. */
  hosts(ref: FunctionRef): boolean {
    if (!this.settings.worker) return false;
    return this.explorer
      .metadata()
      .some(
        ({ name, workflowId }) =>
          name === ref.functionName && (workflowId ?? this.settings.workflowId) === ref.workflowId,
      );
  }

  private host({ metadata, source, invoke }: FoundHandler): {
    ref: FunctionRef;
    definition: string;
  } {
    const definition = definitionOf(metadata, this.settings.workflowId);
    const ref = functionRef(definition.name, definition.workflowId);
    const concurrency = Math.min(
      metadata.concurrency ?? this.settings.concurrency,
      this.settings.concurrency,
    );
    const retry = metadata.resolvedRetry;
    const wrapped = this.probes.wrap?.(ref, invoke) ?? invoke;
    this.consumer.add({ ref, definition, concurrency, retry, invoke: wrapped, source });
    return { ref, definition: encodeDefinition(definition) };
  }
}

/** What is stored of a handler's function. */
export function definitionOf(metadata: HandlerMetadata, workflowId: string): FunctionDefinition {
  const parameters =
    metadata.parameters ??
    (metadata.input === undefined ? undefined : parametersOf(metadata.name, metadata.input));
  return {
    name: metadata.name,
    workflowId: metadata.workflowId ?? workflowId,
    ...(metadata.description === undefined ? {} : { description: metadata.description }),
    ...(parameters === undefined ? {} : { parameters }),
  };
}
