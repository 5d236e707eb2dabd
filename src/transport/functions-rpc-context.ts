import { BaseRpcContext } from '@nestjs/microservices';
import type { FunctionContext } from '../execution/worker/function-context.js';

/** What `@Ctx()` gives to a `@MessagePattern` or `@EventPattern` handler of the functions transport. */
export class FunctionsRpcContext extends BaseRpcContext<[string, FunctionContext | undefined]> {
  /** The channel of an event, or the pattern of a message. */
  getChannel(): string {
    return this.getArgs()[0];
  }

  /** The call, for messages; `undefined` for events. */
  getCall(): FunctionContext | undefined {
    return this.getArgs()[1];
  }
}
