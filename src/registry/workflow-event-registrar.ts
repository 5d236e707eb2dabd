import { Inject, Injectable } from '@nestjs/common';
import { SETTINGS } from '../backend/tokens.js';
import type { Settings } from '../common/settings.js';
import { WorkflowEvents } from '../workflow/workflow-events.js';
import { WorkflowEventExplorer } from './workflow-event-explorer.js';

/** Gives what the explorer finds to what runs it. */
@Injectable()
export class WorkflowEventRegistrar {
  constructor(
    @Inject(WorkflowEventExplorer) private readonly explorer: WorkflowEventExplorer,
    @Inject(WorkflowEvents) private readonly events: WorkflowEvents,
    @Inject(SETTINGS) private readonly settings: Settings,
  ) {}

  /** Adds every decorated method; before the events start. */
  registerAll(): void {
    for (const { metadata, source, handle } of this.explorer.explore()) {
      const { type, workflowId = this.settings.workflowId } = metadata;
      this.events.add({ type, workflowId, source, handle });
    }
  }
}
