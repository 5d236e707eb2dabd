import { CallClient, type CallRequest, type CallResult } from '../execution/caller/call-client.js';
import { isFunctionsError, type FunctionsError } from '../common/errors.js';
import { parseCallPayload } from '../protocol/call.js';
import { isMalformed } from '../protocol/notification.js';
import type { FunctionsSpy } from './functions-spy.js';

/** The caller's side, with a spy that sees what is sent and how it ends. */
export class SpiedCallClient extends CallClient {
  constructor(
    private readonly spy: FunctionsSpy,
    ...parts: ConstructorParameters<typeof CallClient>
  ) {
    super(...parts);
  }

  override async submit(request: CallRequest): Promise<CallResult> {
    const { callId, ref, payload, timeoutMs, delivery, idempotencyKey } = request;
    const { functionName, workflowId } = ref;
    const content = parseCallPayload(payload);
    if (!isMalformed(content)) {
      const terms = { timeoutMs, delivery, idempotencyKey };
      const { trace: _, ...told } = content;
      this.spy.note('called', { functionName, workflowId, callId, ...told, ...terms });
    }
    const about = { functionName, workflowId, callId };
    try {
      const { data, workerId } = await super.submit(request);
      this.spy.note('settled', { ...about, success: true, data, workerId });
      return { data, workerId };
    } catch (error) {
      if (isFunctionsError(error)) this.noteFailure(about, error);
      throw error;
    }
  }

  private noteFailure(
    about: { functionName: string; workflowId: string; callId: string },
    error: FunctionsError,
  ): void {
    this.spy.note('settled', { ...about, success: false, error });
  }
}
