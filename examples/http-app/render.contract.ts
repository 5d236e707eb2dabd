import { IsString, MaxLength } from 'class-validator';
import { defineFunction } from 'nestjs-functions';

/** Body of POST /render, and input of the function: checked by the caller and by the worker. */
export class RenderInput {
  @IsString()
  @MaxLength(200_000)
  markdown!: string;
}

export interface RenderResult {
  readonly html: string;
  /** Which worker did it. */
  readonly workerId: string;
}

export const render = defineFunction<RenderInput, RenderResult>({
  name: 'render',
  workflowId: 'example',
});
