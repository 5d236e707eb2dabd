import { Injectable } from '@nestjs/common';
import { DiscoveryService, MetadataScanner, ModuleRef } from '@nestjs/core';
import type { WorkflowEvent } from '../workflow/workflow-event.js';
import { eventsOf, type WorkflowEventMetadata } from './on-workflow-event.decorator.js';
import {
  hostFor,
  isShared,
  methodsOf,
  sourceOf,
  wrappersOf,
  type ProviderMethod,
} from './provider-methods.js';

/** A decorated method and how to run it. */
export interface FoundWorkflowHandler {
  readonly metadata: WorkflowEventMetadata;
  readonly source: string;
  readonly handle: (event: WorkflowEvent) => unknown;
}

/** Reads `@OnWorkflowEvent` off all providers and controllers. */
@Injectable()
export class WorkflowEventExplorer {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly moduleRef: ModuleRef,
  ) {}

  explore(): FoundWorkflowHandler[] {
    return wrappersOf(this.discovery)
      .flatMap((wrapper) => methodsOf(this.scanner, wrapper))
      .flatMap((found) =>
        eventsOf(found.method).map((metadata) => ({
          metadata,
          source: sourceOf(found),
          handle: (event: WorkflowEvent) => this.invoke(found, event),
        })),
      );
  }

  private async invoke({ wrapper, name }: ProviderMethod, event: WorkflowEvent): Promise<unknown> {
    const host = isShared(wrapper)
      ? (wrapper.instance as object)
      : (await hostFor(this.moduleRef, wrapper, { data: event })).host;
    const method = (host as Record<string, (event: WorkflowEvent) => unknown>)[name];
    return method?.call(host, event);
  }
}
