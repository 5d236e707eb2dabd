import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Inject, Injectable } from '@nestjs/common';
import MarkdownIt from 'markdown-it';
import { FunctionContext, FunctionHandler } from 'nestjs-functions';
import { render, RenderInput, type RenderProgress, type RenderResult } from './contract.js';
import { now } from './messages.js';
import { RUN_LOG, type RunLog } from './run-log.js';

export const OUTPUT_FOLDER = Symbol('OUTPUT_FOLDER');

/** The work of the demo: Markdown files become HTML files. */
@Injectable()
export class Renderer {
  private readonly markdown = new MarkdownIt({ html: true, linkify: true });

  constructor(
    @Inject(RUN_LOG) private readonly runs: RunLog,
    @Inject(OUTPUT_FOLDER) private readonly folder: string,
  ) {}

  @FunctionHandler(render, { input: RenderInput, concurrency: 16 })
  async render({ files }: RenderInput, context: FunctionContext): Promise<RenderResult> {
    const { callId, workerId, attempt } = context;
    const { call } = context.item as { call: number };
    await this.runs.add({ call, callId, workerId, attempt, at: now() });
    let htmlBytes = 0;
    for (const [index, file] of files.entries()) {
      context.signal.throwIfAborted();
      htmlBytes += await this.renderFile(file);
      if (index === 0) context.progress({ workerId } satisfies RenderProgress);
    }
    return { pages: files.length, htmlBytes };
  }

  private async renderFile(file: string): Promise<number> {
    const html = this.markdown.render(await readFile(file, 'utf8'));
    await writeFile(join(this.folder, `${file.replaceAll(/[\\/]/g, '_')}.html`), html);
    return Buffer.byteLength(html);
  }
}
