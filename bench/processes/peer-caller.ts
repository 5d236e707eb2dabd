import { inFlight, type ThroughputReport } from '../load/in-flight.js';
import { oneAtATime, type LatencyReport } from '../load/one-at-a-time.js';
import type { Payload, PeerCaller } from '../peers/peer.js';
import { loadPeer } from '../peers/registry.js';
import type { PeerProcessSettings } from './peer-worker.js';
import { cpuMs } from './cpu-ms.js';
import { Profiler } from './profiler.js';
import { benchSettings, serve } from './serve.js';

interface Load {
  /** Bytes of text in the payload. */
  readonly size: number;
  readonly durationMs: number;
  readonly leadInMs: number;
}

const settings = benchSettings<PeerProcessSettings>();
const profiler = new Profiler();
let caller: PeerCaller | undefined;

const commands = {
  latency: ({ size, durationMs, leadInMs }: Load): Promise<LatencyReport> =>
    oneAtATime(callOf(size), durationMs, leadInMs),
  throughput: ({
    lanes,
    size,
    durationMs,
    leadInMs,
  }: Load & { lanes: number }): Promise<ThroughputReport> =>
    inFlight(callOf(size), lanes, durationMs, leadInMs),
  cpuMs: () => cpuMs(),
  startProfile: () => profiler.start(),
  stopProfile: () => profiler.stop(),
};

export type PeerCallerCommands = typeof commands;

/** The caller of a peer: makes calls as it is told, and checks that the payload comes back. */
async function main(): Promise<void> {
  const peer = await loadPeer(settings.peer);
  const opened = await peer.openCaller(settings);
  caller = opened;
  await callOf(1)();
  serve(commands, () => opened.close());
}

function callOf(size: number): () => Promise<void> {
  const opened = caller;
  if (opened === undefined) throw new Error('the caller is not open yet');
  const payload: Payload = { text: 'x'.repeat(size) };
  return async () => {
    const answer = await opened.call(payload);
    if (answer.text.length !== size) throw new Error('the answer is not the payload');
  };
}

void main();
