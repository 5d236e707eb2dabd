import { ArrayNotEmpty, IsString } from 'class-validator';
import { defineFunction } from 'nestjs-functions';

/** What is to be rendered: paths of Markdown files, relative to the checkout. */
export class RenderInput {
  @IsString({ each: true })
  @ArrayNotEmpty()
  files!: string[];
}

export interface RenderResult {
  readonly pages: number;
  readonly htmlBytes: number;
}

/** Sent by the handler when its first page is written: the call is in the middle of its run. */
export interface RenderProgress {
  readonly workerId: string;
}

/** Caller and workers share this: a call, and a handler, of the wrong shape do not compile. */
export const render = defineFunction<RenderInput, RenderResult>({
  name: 'render',
  workflowId: 'demo',
});

/** How often the plain registry asks whether a worker is there; the library's default. */
export const POLL_INTERVAL_MS = 500;
