import { Catch, HttpException, type ArgumentsHost } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { FunctionsError } from 'nestjs-functions';

const STATUS: Readonly<Record<string, number>> = {
  INVALID_PARAMETERS: 400,
  INVALID_INPUT: 400,
  PAYLOAD_NOT_SERIALIZABLE: 400,
  PAYLOAD_TOO_LARGE: 413,
  DEADLINE_EXCEEDED: 504,
};

/** What a failed call is over HTTP: the client's mistakes, what is worth another attempt (503), and the rest. */
@Catch(FunctionsError)
export class FunctionsErrorFilter extends BaseExceptionFilter {
  override catch(error: FunctionsError, host: ArgumentsHost): void {
    // A global filter sees the failures of @FunctionHandler methods, too: those go to their callers as they are.
    if (host.getType() !== 'http') throw error;
    const { code, message, details, retryable } = error;
    const status = STATUS[code] ?? (retryable ? 503 : 500);
    super.catch(new HttpException({ code, message, details }, status), host);
  }
}
