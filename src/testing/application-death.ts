import type { INestApplicationContext } from '@nestjs/common';
import { BACKEND } from '../backend/tokens.js';
import { CallClient } from '../execution/caller/call-client.js';
import { CallConsumer } from '../execution/worker/call-consumer.js';
import { FunctionsRuntime } from '../functions.runtime.js';
import { FleetBackend, type FleetProcess } from './fleet-process.js';

/** The process that an application is in its fleet; `undefined` when it is in none. */
export function processOf(app: INestApplicationContext): FleetProcess | undefined {
  const backend: unknown = app.get(BACKEND, { strict: false });
  return backend instanceof FleetBackend ? backend.process : undefined;
}

/** Ends the parts of an application that lost its connections: what reads and calls first, then all. */
export async function windUp(app: INestApplicationContext): Promise<void> {
  const reading = app.get(CallConsumer, { strict: false }).close();
  const calling = app.get(CallClient, { strict: false }).close();
  const runtime = app.get(FunctionsRuntime, { strict: false });
  await Promise.all([reading, calling, runtime.drain()]);
  await runtime.close();
}
