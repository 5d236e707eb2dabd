import { PEER_NAMES, PEER_TITLES, type PeerName } from '../peers/registry.js';
import type { PeerCallerCommands } from '../processes/peer-caller.js';
import type { PeerWorkerCommands } from '../processes/peer-worker.js';
import { CPU_PARTS, LANES, metric, SIZES, type CpuPart, type Lanes } from '../report/metrics.js';
import { figure, times, type Table } from '../report/table.js';
import type { Benchmark, Run } from './benchmark.js';
import { undisturbed, type Pair } from './undisturbed.js';

const OURS = 'nestjs-functions';
/** Bytes of text in the calls of the throughput rows. */
const TEXT_BYTES = 100;

/** Short and many rather than long and few. */
const TURNS_A_ROUND = 3;

/**
 * Calls of an echo, one at a time and many in flight: project, peers and floors, each with one caller and one
 * worker process, which live through all rounds. A round has turns of half a second per figure, each beginning
 * with another peer: what disturbs the machine for seconds disturbs all of them alike.
 */
export const latencyAndThroughput: Benchmark = {
  names: ['latency', 'throughput'],

  async run(run) {
    const pairs: Pair[] = [];
    for (const peer of PEER_NAMES) {
      const pair = await startPair(run, peer);
      if (pair !== undefined) pairs.push(pair);
    }
    for (const { caller } of pairs) await warmUp(run, caller);
    const turns = run.quick ? 1 : TURNS_A_ROUND;
    for (let turn = 0; turn < run.rounds * turns; turn++) {
      run.say(`round ${Math.floor(turn / turns) + 1}, turn ${(turn % turns) + 1}: calls`);
      for (const pair of rotated(pairs, turn)) {
        if (run.wanted('latency')) await measureLatency(run, pair);
        if (run.wanted('throughput')) await measureThroughput(run, pair);
      }
    }
  },

  tables: (run) => [
    ...(run.wanted('latency') ? [latencyTable(run)] : []),
    ...(run.wanted('throughput') ? [throughputTable(run), cpuTable(run)] : []),
  ],
};

/** `undefined` for a peer that cannot be had: its rows say why. */
async function startPair(
  { stage, measurements, say }: Run,
  peer: PeerName,
): Promise<Pair | undefined> {
  const settings = { ...stage.settings(), peer };
  try {
    const worker = await stage.start<PeerWorkerCommands>('peer-worker.ts', settings);
    const caller = await stage.start<PeerCallerCommands>('peer-caller.ts', settings);
    return { peer, worker, caller };
  } catch (error) {
    if (peer === OURS) throw error;
    const said = error instanceof Error ? error.message : String(error);
    const reason =
      peer === 'nats' && settings.natsUrl === undefined ? stage.natsVersion : firstLine(said);
    say(`${PEER_TITLES[peer]} is not measured: ${said}`);
    for (const size of SIZES)
      for (const part of ['p50', 'p99'] as const)
        measurements.skip(metric.latency(peer, size, part), reason);
    for (const lanes of LANES) measurements.skip(metric.throughput(peer, lanes), reason);
    return undefined;
  }
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const from = by % items.length;
  return [...items.slice(from), ...items.slice(0, from)];
}

async function warmUp({ quick }: Run, caller: Pair['caller']): Promise<void> {
  const load = { size: TEXT_BYTES, durationMs: quick ? 200 : 1_500, leadInMs: 0 };
  await caller.ask('throughput', { ...load, lanes: 64 });
  await caller.ask('latency', load);
}

async function measureLatency(run: Run, pair: Pair): Promise<void> {
  const { measurements, quick } = run;
  const { peer, caller } = pair;
  for (const size of SIZES) {
    const load = { size, durationMs: quick ? 300 : 500, leadInMs: quick ? 50 : 200 };
    const { result } = await undisturbed(run, pair, () => caller.ask('latency', load));
    measurements.add(metric.latency(peer, size, 'p50'), result.p50Ms);
    measurements.add(metric.latency(peer, size, 'p99'), result.p99Ms);
  }
}

/**
 * The lead-in is long: a process that was idle has given back the young generation of its heap, and needs most of a
 * second under load until it is as large again as that load wants it.
 */
async function measureThroughput(run: Run, pair: Pair): Promise<void> {
  const { stage, measurements, quick } = run;
  const { peer, caller } = pair;
  for (const lanes of LANES) {
    const load = {
      size: TEXT_BYTES,
      durationMs: quick ? 300 : 600,
      leadInMs: quick ? 150 : 800,
    };
    const { result, cpuMs } = await undisturbed(run, pair, async () => {
      const count = await stage.countCommands();
      const speed = await caller.ask('throughput', { ...load, lanes });
      return { ...speed, commands: await count.stop() };
    });
    const { perSecond, calls, commands } = result;
    measurements.add(metric.throughput(peer, lanes), perSecond);
    measurements.add(metric.commands(peer, lanes), commands.total / calls);
    measurements.add(metric.scripts(peer, lanes), commands.scripts / calls);
    for (const part of CPU_PARTS)
      measurements.add(metric.cpu(peer, lanes, part), (cpuMs[part] / calls) * 1_000);
  }
}

function latencyTable({ measurements }: Run): Table {
  const cell = (peer: PeerName, size: (typeof SIZES)[number], part: 'p50' | 'p99'): string =>
    figure(measurements.median(metric.latency(peer, size, part)));
  return {
    title: 'One call at a time, echo (ms)',
    head: ['', '100 B p50', '100 B p99', '10 kB p50', '10 kB p99', 'ours / this'],
    rows: PEER_NAMES.map((peer) => [
      PEER_TITLES[peer],
      cell(peer, 100, 'p50'),
      cell(peer, 100, 'p99'),
      cell(peer, 10_000, 'p50'),
      cell(peer, 10_000, 'p99'),
      times(measurements.ratio(metric.latency(OURS, 100, 'p50'), metric.latency(peer, 100, 'p50'))),
    ]),
  };
}

function throughputTable({ measurements }: Run): Table {
  const ratio = (peer: PeerName, lanes: (typeof LANES)[number]): string =>
    times(measurements.ratio(metric.throughput(OURS, lanes), metric.throughput(peer, lanes)));
  return {
    title: 'Throughput, echo of 100 B, one caller, one worker',
    head: [
      '',
      '64: calls/s',
      'ours / this',
      '512: calls/s',
      'ours / this',
      '512: commands/call',
      'of it EVALSHA',
    ],
    rows: PEER_NAMES.map((peer) => [
      PEER_TITLES[peer],
      figure(measurements.median(metric.throughput(peer, 64))),
      ratio(peer, 64),
      figure(measurements.median(metric.throughput(peer, 512))),
      ratio(peer, 512),
      peer === 'nats' ? 'no Redis' : figure(measurements.median(metric.commands(peer, 512))),
      peer === 'nats' ? '' : figure(measurements.median(metric.scripts(peer, 512))),
    ]),
    notes: [
      'commands: INFO commandstats; an EVALSHA is one command, and those that its script runs are counted too',
    ],
  };
}

/** What a busy machine does not distort as it does the speed. */
function cpuTable({ measurements }: Run): Table {
  const cell = (peer: PeerName, lanes: Lanes, part: CpuPart): string =>
    figure(measurements.median(metric.cpu(peer, lanes, part)));
  return {
    title: 'Processor time of a call (microseconds)',
    head: ['', ...LANES.flatMap((lanes) => [`${lanes}: caller`, 'worker', 'server'])],
    rows: PEER_NAMES.map((peer) => [
      PEER_TITLES[peer],
      ...LANES.flatMap((lanes) => CPU_PARTS.map((part) => cell(peer, lanes, part))),
    ]),
  };
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? text;
}
