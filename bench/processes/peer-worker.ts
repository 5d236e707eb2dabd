import type { PeerSettings } from '../peers/peer.js';
import { loadPeer, type PeerName } from '../peers/registry.js';
import { cpuMs } from './cpu-ms.js';
import { Profiler } from './profiler.js';
import { benchSettings, serve } from './serve.js';

/** Settings of both processes of a peer. */
export type PeerProcessSettings = PeerSettings & { readonly peer: PeerName };

const settings = benchSettings<PeerProcessSettings>();
const profiler = new Profiler();

const commands = {
  cpuMs: () => cpuMs(),
  startProfile: () => profiler.start(),
  stopProfile: () => profiler.stop(),
};

export type PeerWorkerCommands = typeof commands;

/** The worker of a peer: answers every call with its payload. */
async function main(): Promise<void> {
  const peer = await loadPeer(settings.peer);
  const close = await peer.openWorker(settings);
  serve(commands, close);
}

void main();
