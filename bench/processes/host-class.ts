import 'reflect-metadata';
import { Injectable, type Type } from '@nestjs/common';
import { FunctionHandler } from 'nestjs-functions';
import { functionName, WORKFLOW } from './function-name.js';

/** What a handler is called with. */
export interface Work {
  readonly text: string;
}

/** A provider with as many decorated methods as are asked for, all of which do the same. */
export function createHostClass(
  functions: number,
  handle: (work: Work) => Work | Promise<Work>,
): Type<object> {
  class Host {}
  for (let index = 0; index < functions; index++) {
    const descriptor: TypedPropertyDescriptor<(work: Work) => Work | Promise<Work>> = {
      value: (work) => handle(work),
      configurable: true,
    };
    Object.defineProperty(Host.prototype, `run${index}`, descriptor);
    const decorate = FunctionHandler({ name: functionName(index), workflowId: WORKFLOW });
    decorate(Host.prototype, `run${index}`, descriptor);
  }
  Injectable()(Host);
  return Host;
}
