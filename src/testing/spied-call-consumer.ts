import { CallConsumer } from '../execution/worker/call-consumer.js';
import type { FunctionContext } from '../execution/worker/function-context.js';
import type { HostedFunction } from '../execution/worker/hosted-function.js';
import type { FunctionsSpy } from './functions-spy.js';
import type { HandlerRun } from './spy-events.js';

/** The worker's side, with a spy that sees handlers run. */
export class SpiedCallConsumer extends CallConsumer {
  constructor(
    private readonly spy: FunctionsSpy,
    ...parts: ConstructorParameters<typeof CallConsumer>
  ) {
    super(...parts);
  }

  override add(hosted: HostedFunction): void {
    super.add({
      ...hosted,
      invoke: (parameters, context) => this.spyOn(hosted, parameters, context),
    });
  }

  private async spyOn(
    hosted: HostedFunction,
    parameters: unknown,
    context: FunctionContext,
  ): Promise<unknown> {
    const run = describe(parameters, context);
    this.spy.note('started', run);
    try {
      return await hosted.invoke(parameters, context);
    } catch (error) {
      this.spy.note('failed', { ...run, error });
      throw error;
    }
  }
}

function describe(parameters: unknown, context: FunctionContext): HandlerRun {
  const { functionName, workflowId, callId, workerId, attempt, item, headers } = context;
  return { functionName, workflowId, callId, workerId, attempt, parameters, item, headers };
}
