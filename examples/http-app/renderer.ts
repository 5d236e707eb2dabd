import { Injectable } from '@nestjs/common';
import MarkdownIt from 'markdown-it';
import { FunctionContext, FunctionHandler } from 'nestjs-functions';
import { render, RenderInput, type RenderResult } from './render.contract.js';

/** Hosts the function: any provider or controller method can. */
@Injectable()
export class Renderer {
  private readonly markdown = new MarkdownIt();

  @FunctionHandler(render, { input: RenderInput, description: 'Markdown to HTML' })
  render({ markdown }: RenderInput, { workerId }: FunctionContext): RenderResult {
    return { html: this.markdown.render(markdown), workerId };
  }
}
