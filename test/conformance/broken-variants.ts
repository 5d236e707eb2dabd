import type { Backend } from '../../src/backend/backend.js';
import type {
  CallReader,
  CallStreams,
  Outcome,
  ReplyReader,
  RawCall,
} from '../../src/backend/call-streams.js';
import type { CircuitStore } from '../../src/backend/circuit-store.js';
import type { DeadLetterStore, RawDeadLetter } from '../../src/backend/dead-letter-store.js';
import type { FleetStore } from '../../src/backend/fleet-store.js';
import type { BusEvents, NotificationBus } from '../../src/backend/notification-bus.js';
import type { WorkerStore } from '../../src/backend/worker-store.js';
import type { WorkflowStore } from '../../src/backend/workflow-store.js';
import { CALL_FIELDS } from '../../src/protocol/call.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';

/** A good backend with one thing broken. */
export interface BrokenVariant {
  readonly title: string;
  break(backend: Backend, keys: Keys): Backend;
  /** The keys that it uses, where that is what is broken. */
  readonly keys?: (keys: Keys) => Keys;
}

/** An object that does some things otherwise, and everything else as the one behind it. */
function otherwise<T extends object>(target: T, changes: Partial<T>): T {
  return new Proxy(target, {
    get: (_, name) => {
      if (Object.hasOwn(changes, name)) return Reflect.get(changes, name) as unknown;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function'
        ? (value as (...args: unknown[]) => unknown).bind(target)
        : value;
    },
  });
}

type Change<T> = (good: T, keys: Keys, backend: Backend) => Partial<T>;

const part =
  <
    N extends 'bus' | 'workers' | 'fleet' | 'calls' | 'deadLetters' | 'circuits' | 'workflows',
    T extends Backend[N],
  >(
    name: N,
  ) =>
  (title: string, change: Change<T>): BrokenVariant => ({
    title,
    break: (backend, keys) =>
      otherwise(backend, {
        [name]: otherwise(backend[name] as T, change(backend[name] as T, keys, backend)),
      }),
  });

const bus = part<'bus', NotificationBus>('bus');
const workers = part<'workers', WorkerStore>('workers');
const fleet = part<'fleet', FleetStore>('fleet');
const calls = part<'calls', CallStreams>('calls');
const deadLetters = part<'deadLetters', DeadLetterStore>('deadLetters');
const circuits = part<'circuits', CircuitStore>('circuits');
const workflows = part<'workflows', WorkflowStore>('workflows');

const reader = (title: string, change: (good: CallReader) => Partial<CallReader>): BrokenVariant =>
  calls(title, (good) => ({
    openReader: (consumer) => {
      const opened = good.openReader(consumer);
      return otherwise(opened, change(opened));
    },
  }));

const replies = (
  title: string,
  change: (good: ReplyReader) => Partial<ReplyReader>,
): BrokenVariant =>
  calls(title, (good) => ({
    openReplies: (processId) => {
      const opened = good.openReplies(processId);
      return otherwise(opened, change(opened));
    },
  }));

/** Drops, or changes, what a bus tells its user. */
const heard = (
  title: string,
  hear: (message: BusEvents['message']) => BusEvents['message'],
): BrokenVariant =>
  bus(title, (good) => ({
    attach: (events) =>
      good.attach({
        message: hear((...message) => events.message(...message)),
        connected: () => events.connected(),
        disconnected: (reason) => events.disconnected(reason),
      }),
  }));

const outcomes = (title: string, change: (outcome: Outcome) => Outcome): BrokenVariant =>
  calls(title, (good) => ({
    conclude: (all, consumer) => good.conclude(all.map(change), consumer),
  }));

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A field of a call, left out where it is read. */
const forgetting = (title: string, name: string): BrokenVariant =>
  reader(title, (good) => ({
    read: async (...read) =>
      (await good.read(...read)).map((call) => {
        const at = call.fields.findIndex((field, index) => index % 2 === 0 && field === name);
        return at < 0 ? call : { ...call, fields: call.fields.toSpliced(at, 2) };
      }),
  }));

/** One broken variant, at the least, of each thing that is promised. */
export const brokenVariants: readonly BrokenVariant[] = [
  // No missed wake-up
  reader('a reader is woken late: it looks again when its time is up', (good) => ({
    read: async (refs, count, blockMs) => {
      const found = await good.read(refs, count, 0);
      if (found.length > 0 || blockMs === 0) return found;
      await pause(blockMs);
      return good.read(refs, count, 0);
    },
  })),
  reader('who waits looks now and then instead of standing in line', (good) => ({
    read: async (refs, count, blockMs) => {
      const until = Date.now() + blockMs;
      for (;;) {
        const found = await good.read(refs, count, 0);
        if (found.length > 0 || Date.now() >= until) return found;
        await pause(1 + Math.random() * 20);
      }
    },
  })),
  replies('a caller is woken late', (good) => ({
    read: async (blockMs) => {
      if (blockMs < 1_000) return good.read(blockMs);
      await pause(blockMs);
      return good.read(1);
    },
  })),
  reader('a waiting read cannot be woken', () => ({ wake: () => Promise.resolve(true) })),
  reader('the bell is heard late', (good) => ({
    waitForBell: async (_, blockMs) => {
      await pause(blockMs);
      return good.waitForBell(['nobody'], 1);
    },
  })),
  reader('the bell does not say that it rang', (good) => ({
    waitForBell: async (...wait) => {
      return { ...(await good.waitForBell(...wait)), rang: false };
    },
  })),
  reader('calls are never given', (good) => ({
    waitForBell: (pools, blockMs) => good.waitForBell(pools, blockMs),
  })),
  reader('more is given than was offered', (good) => ({
    waitForBell: async (...wait) => {
      const { calls } = await good.waitForBell(...wait);
      const [pools] = wait;
      const read = { pools, limit: 100, functions: 64, perFunction: 100, rooms: [] };
      return { rang: false, calls: [...calls, ...(await good.take(read)).calls] };
    },
  })),
  reader('what was given is told again', (good) => {
    let told: readonly RawCall[] = [];
    return {
      waitForBell: async (...wait) => {
        const [pools, , offer] = wait;
        const bell = await good.waitForBell(...wait);
        if (offer === undefined) return bell;
        const limit = offer.places;
        const read = { pools, limit, functions: 64, perFunction: 1, rooms: [] };
        told = [...bell.calls, ...(await good.take(read)).calls].slice(0, limit);
        return { rang: bell.rang, calls: told };
      },
      withdraw: async () => [...told, ...(await good.withdraw())],
    };
  }),
  reader('a call that comes between two waits is lost', (good) => {
    let waited = false;
    return {
      waitForBell: async (...wait) => {
        const bell = await good.waitForBell(...wait);
        waited = wait[2] !== undefined && !bell.rang;
        return bell;
      },
      take: async (read) => {
        const { calls, more } = await good.take(read);
        return { calls: waited ? calls.slice(1) : calls, more };
      },
    };
  }),
  reader('what one pool had is lost with the group of the next one', (good) => ({
    take: async (read) => {
      const looks = [];
      for (const pool of read.pools) looks.push(await good.take({ ...read, pools: [pool] }));
      return {
        calls: looks.flatMap(({ calls }) => calls),
        more: looks.some(({ more }) => more),
      };
    },
  })),
  reader('nothing is ever due', () => ({ isDue: () => Promise.resolve(false) })),
  reader('a look at the pool says that nothing is left', (good) => ({
    take: async (read) => ({ ...(await good.take(read)), more: false }),
  })),
  bus('a subscription is acknowledged before it is in place', (good) => ({
    subscribe: (channels) => {
      void pause(50).then(() => good.subscribe(channels).catch(() => undefined));
      return Promise.resolve();
    },
  })),
  bus('a pattern is taken for a name', (good) => ({
    psubscribe: (patterns) => good.subscribe(patterns),
  })),
  heard('news come in another order', (tell) => {
    let held: (() => void) | undefined;
    return (...message) => {
      const first = held;
      held = first === undefined ? () => tell(...message) : undefined;
      if (first === undefined) return void pause(20).then(() => held?.());
      tell(...message);
      first();
    };
  }),
  heard('news of a worker that left are lost', (tell) => (channel, payload, pattern) => {
    if (!payload.includes('"offline"')) tell(channel, payload, pattern);
  }),
  heard('news come twice', (tell) => (...message) => {
    tell(...message);
    tell(...message);
  }),
  heard('a process does not hear that its worker was removed', (tell) => (...message) => {
    if (!message[1].includes('"unregistered"')) tell(...message);
  }),
  workers('a change of an older epoch is accepted', (good) => ({
    change: (ref, workerId, _, change) => good.change(ref, workerId, undefined, change),
  })),
  workers('a worker of an older epoch, or another session, removes the present one', (good) => ({
    unregister: (ref, workerId, _, reason) => good.unregister(ref, workerId, {}, reason),
  })),
  workers('a worker that comes back has the epoch that it had', (good) => ({
    register: async (registration) => {
      const registered = await good.register(registration);
      return { ...registered, record: { ...registered.record, epoch: registration.session.epoch } };
    },
  })),

  workers('health brings a draining worker back', (good) => {
    const well = new Set<string>();
    return {
      change: (ref, workerId, epoch, change) => {
        if (change.kind === 'healthy') well.add(workerId);
        return good.change(ref, workerId, epoch, change);
      },
      find: async (ref, workerId) => {
        const record = await good.find(ref, workerId);
        return record && well.has(workerId) ? { ...record, status: 'ready' } : record;
      },
    };
  }),
  bus('a channel is heard under every prefix', (good) => ({
    subscribe: (channels) => good.psubscribe(channels.map((channel) => `*${channel}`)),
  })),

  // Ready is an acknowledgement
  workers('ready is told before the record is there', (good, keys, { bus: news }) => ({
    register: async (registration) => {
      const { ref, workerId } = registration;
      const data = { type: 'ready', ...ref, workerId, epoch: 1, seq: 1, timestamp: 1 };
      await news.publish(keys.channel('ready', ref), JSON.stringify({ pattern: 'x', data }));
      await pause(20);
      return good.register(registration);
    },
  })),
  workers('a condemned session may register', (good) => ({
    register: (registration) =>
      good.register(registration).catch(async () => {
        await good.join(registration.session.sessionId, 60_000, true);
        return good.register(registration);
      }),
  })),

  // Every call settles exactly once
  calls('a settle that is not owned any more is told to the caller all the same', (good) => ({
    conclude: async (all, consumer) => {
      const { lost } = await good.conclude(all, consumer);
      const late = lost.map((index) => ({ ...(all[index] as Outcome), kind: 'progress' as const }));
      if (late.length > 0) await good.conclude(late, consumer);
      return { lost: [], again: [], why: '' };
    },
  })),
  outcomes('a settle does not remove its call', (outcome) =>
    outcome.kind === 'settle' ? { ...outcome, kind: 'answer' } : outcome,
  ),
  outcomes('an answer on the way removes its call', (outcome) =>
    outcome.kind === 'answer' ? { ...outcome, kind: 'settle' } : outcome,
  ),
  outcomes('a result is removed without being told', (outcome) =>
    outcome.kind === 'settle' ? { ...outcome, kind: 'discard', reply: '', replyTo: '' } : outcome,
  ),
  calls('what is said in one go is carried out in another order', (good) => ({
    conclude: async (all, consumer) => {
      const { lost, ...rest } = await good.conclude([...all].reverse(), consumer);
      return { ...rest, lost: lost.map((index) => all.length - 1 - index) };
    },
  })),
  calls('a call is lost when several are submitted at once', (good) => ({
    submit: async (all, terms) => {
      if (all.length < 2) return good.submit(all, terms);
      return [...(await good.submit(all.slice(0, -1), terms)), '1-1'];
    },
  })),
  reader('a call is delivered twice', (good) => {
    let last: Awaited<ReturnType<CallReader['read']>> = [];
    return {
      read: async (...read) => {
        const before = last.slice(0, 1);
        last = await good.read(...read);
        return [...before, ...last];
      },
    };
  }),
  reader('calls are delivered in another order', (good) => ({
    read: async (...read) => (await good.read(...read)).toReversed(),
  })),
  replies('a reply comes twice', (good) => ({
    read: async (blockMs) => (await good.read(blockMs)).flatMap((reply) => [reply, reply]),
  })),
  reader('a call forgets that it must run at most once', (good) => ({
    read: async (...read) =>
      (await good.read(...read)).map((call) => ({
        ...call,
        fields: call.fields.map((field) => field.replace(/^(\d)m?(w?) /, '$1$2 ')),
      })),
  })),

  {
    title: 'every key prefix holds the same',
    break: (backend) => backend,
    keys: () => new Keys('conformance-same:'),
  },
  calls('a group begins with what comes after it', (good) => ({
    ensureGroups: async (refs, consumer) => {
      const left = await good.ensureGroups(refs, consumer);
      const thief = good.openReader('thief');
      await thief.whenConnected();
      await thief.read(refs, 1_000, 0);
      await thief.close();
      return left;
    },
  })),

  // At least once, fenced
  calls('calls of a lost worker are lost with it', (good) => ({
    release: async (ref, consumer, release) => {
      const held = await good.inherit(ref, consumer, 'nobody');
      const gone = held.map(({ entryId }) => ({
        ...{ ref, entryId, callId: '', replyTo: '', reply: '' },
        kind: 'discard' as const,
      }));
      if (gone.length > 0) await good.conclude(gone, 'nobody');
      return good.release(ref, consumer, release);
    },
  })),
  calls('a call that must run at most once runs again', (good) => ({
    submit: (all, terms) =>
      good.submit(
        all.map((call) => ({ ...call, delivery: 'at-least-once' })),
        terms,
      ),
  })),
  calls('a call that kills its workers is never given up', (good) => ({
    release: (ref, consumer, release) =>
      good.release(
        ref,
        consumer,
        release.kind === 'lost' ? { ...release, maxDeliveries: 1_000 } : release,
      ),
  })),
  calls('a call that is handed back counts as lost', (good) => ({
    release: (ref, consumer, release) =>
      release.kind === 'lost' || release.entries.length === 0
        ? good.release(ref, consumer, release)
        : good.release(ref, consumer, { kind: 'lost', maxDeliveries: 3 }),
  })),
  forgetting('a further attempt looks like the first', CALL_FIELDS.attempt),
  forgetting('a call that is handed over gets its time anew', CALL_FIELDS.origin),
  replies('the new place of a call is not told', (good) => ({
    read: async (blockMs) =>
      (await good.read(blockMs)).filter(({ reply }) => !reply.includes('"k":"m"')),
  })),
  calls('calls with one key each run', (good) => ({
    submit: (all, terms) =>
      good.submit(
        all.map((call) => ({ ...call, idempotencyKey: undefined })),
        terms,
      ),
  })),
  calls('all keys are one', (good) => ({
    submit: (all, terms) =>
      good.submit(
        all.map((call) => ({ ...call, idempotencyKey: call.idempotencyKey && 'one' })),
        terms,
      ),
  })),
  outcomes('the result of a shared call is not kept', (outcome) =>
    outcome.once === undefined ? outcome : { ...outcome, once: { ...outcome.once, keepMs: 1 } },
  ),
  outcomes('the result of a shared call is kept for ever', (outcome) =>
    outcome.once === undefined ? outcome : { ...outcome, once: { ...outcome.once, keepMs: 1e9 } },
  ),
  outcomes('only the first of those who share a call is told', (outcome) => ({
    ...outcome,
    once: undefined,
  })),
  outcomes('a failed call does not wait for its next attempt', (outcome) =>
    outcome.kind === 'retry' ? { ...outcome, delayMs: 0 } : outcome,
  ),
  calls('calls that wait for another attempt are forgotten', () => ({
    promote: () => Promise.resolve(0),
  })),
  outcomes('a call that is given up leaves no dead letter', (outcome) =>
    outcome.kind === 'bury' ? { ...outcome, kind: 'settle' } : outcome,
  ),
  deadLetters('a dead letter that is called again stays', (good) => ({
    requeue: async (ref, id, ttlMs) => {
      const entryId = await good.requeue(ref, id, ttlMs);
      return entryId ?? '1-1';
    },
  })),
  deadLetters('each page of dead letters is the first', (good) => ({
    list: (ref, _, limit) => good.list(ref, '', limit),
  })),
  calls('what a destroyed group had is not put back', () => ({
    adopt: () => Promise.resolve(0),
  })),
  calls('what a session holds does not go to the next one', () => ({
    inherit: () => Promise.resolve([]),
  })),

  // Process death
  fleet('nobody is ever missed', (good) => ({
    look: async (...look) => {
      const view = await good.look(...look);
      return view && { ...view, absent: [] };
    },
  })),
  fleet('a lease never runs out', (good) => ({
    look: async (...look) => {
      const view = await good.look(...look);
      return view && { ...view, lapsed: [] };
    },
  })),
  fleet('a session is condemned although it lives', (good) => ({
    condemn: async (sessionId, evidence) => (await good.condemn(sessionId, evidence)) ?? [],
  })),
  fleet('what a session hosted before is not looked for', (good) => ({
    condemn: async (...condemn) =>
      (await good.condemn(...condemn))?.filter(({ workerId }) => workerId !== ''),
  })),
  fleet('everybody supervises', (good) => ({
    elect: async (...elect) => {
      await good.elect(...elect);
      return 'supervisor';
    },
  })),
  fleet('an office is never free again', (good) => ({ resign: () => good.resign('nobody') })),
  heard('a deputy does not hear of looks', (tell) => (...message) => {
    if (!message[1].includes('"looked"')) tell(...message);
  }),
  fleet('both offices are always held', () => ({ areHeld: () => Promise.resolve(true) })),
  fleet('everybody keeps the office of the deputy', (good) => ({
    keepDeputy: async (...keep) => {
      await good.keepDeputy(...keep);
      return true;
    },
  })),
  workers('a lease that is gone is renewed', () => ({ renew: () => Promise.resolve(true) })),
  fleet('what nobody claimed is never seen', (good) => ({
    look: async (...look) => {
      const view = await good.look(...look);
      return view && { ...view, unclaimed: [] };
    },
  })),
  fleet('a read that is gone is still seen', () => ({ isReading: () => Promise.resolve(true) })),
  fleet('delayed calls are never due', (good) => ({
    look: async (...look) => {
      const view = await good.look(...look);
      return view && { ...view, due: [] };
    },
  })),
  workers('a condemned session is told that it lives', (good) => ({
    heartbeat: async (...beat) => ({ ...(await good.heartbeat(...beat)), verdict: 'alive' }),
  })),
  workers('a session without presence is missed all the same', (good) => ({
    join: (sessionId, leaseMs) => good.join(sessionId, leaseMs, true),
  })),

  // Deadlines, cancellation
  calls('a call that was long on its way has all of its time', (good) => ({
    submit: (all, terms) =>
      good.submit(
        all.map((call) => ({ ...call, sentAt: undefined })),
        terms,
      ),
  })),
  calls('a cancelled call runs all the same', () => ({
    cancel: () => Promise.resolve('removed'),
  })),
  heard('the worker of a cancelled call does not hear of it', (tell) => (...message) => {
    if (!message[1].includes('"cancel"')) tell(...message);
  }),
  workers("the clock of another host is taken for the store's", (good) => ({
    heartbeat: async (...beat) => {
      const pulse = await good.heartbeat(...beat);
      return { ...pulse, timestamp: pulse.timestamp + 60_000 };
    },
  })),

  // Nobody there
  workers('workers whose process is gone look alive', (good) => ({
    snapshot: async (ref) => {
      const { workers: living, stale, ...rest } = await good.snapshot(ref);
      return { ...rest, workers: [...living, ...stale], stale: [] };
    },
  })),
  workers('no function has a record', () => ({ countRecorded: () => Promise.resolve(0) })),
  workers('workers of all workflows are one', (good) => ({
    snapshot: (ref) => good.snapshot(functionRef(ref.functionName, 'default')),
  })),
  workers('a definition that is removed stays', () => ({
    removeDefinition: () => Promise.resolve(true),
  })),

  // Drain
  reader('a reader that is closed goes on taking calls', (good) => ({
    close: () => Promise.resolve(),
    read: (...read) => good.read(...read),
  })),
  workers('a process that left is missed', () => ({ leave: () => Promise.resolve() })),
  calls('a process hands back what others hold', (good) => ({
    release: async (ref, consumer, release) => {
      if (release.kind === 'lost') return good.release(ref, consumer, release);
      const result = await good.release(ref, consumer, release);
      const calls_ = release.entries.map(({ entryId }) => ({
        ...{ ref, entryId, callId: '', replyTo: '', reply: '' },
        kind: 'discard' as const,
      }));
      await good.conclude(calls_, consumer);
      return result;
    },
  })),

  // Redis may go away
  replies('a caller does not learn that its calls were forgotten', (good) => ({
    ensure: async () => {
      await good.ensure();
      return false;
    },
  })),

  reader('a reset leaves the connection as it is', () => ({ reset: () => undefined })),
  replies('a reset of the read of replies leaves the connection as it is', () => ({
    reset: () => undefined,
  })),
  reader('all connections of a reader are one', () => ({ connections: () => 1 })),
  replies('all connections of a read of replies are one', () => ({ connections: () => 1 })),
  reader('a consumer does not learn what it has', () => ({ pending: () => Promise.resolve([]) })),
  replies('what came while a read of replies was reset is lost', (good) => {
    let connections = 0;
    return {
      read: async (blockMs) => {
        const read = await good.read(blockMs);
        const isNew = good.connections() > 1 && connections !== good.connections();
        connections = good.connections();
        return isNew ? [] : read;
      },
    };
  }),

  // Bad input
  calls('every function is broken', () => ({ broken: (refs) => Promise.resolve([...refs]) })),
  calls('no function is ever broken', () => ({ broken: () => Promise.resolve([]) })),

  // Pub/sub
  bus('nobody is heard to listen', () => ({ heard: () => Promise.resolve([]) })),

  // Bounded
  calls('a function has as many calls as anybody likes', (good) => ({
    submit: (all, terms) => good.submit(all, { ...terms, maxBacklog: Infinity }),
  })),
  outcomes('progress knows no bound', (outcome) =>
    outcome.kind === 'progress' ? { ...outcome, kind: 'answer' } : outcome,
  ),
  replies('who shares a call and does not read has all its progress kept', (good) => {
    let begun = false;
    return {
      read: async (blockMs) => {
        const read = await good.read(blockMs);
        const [oldest] = read;
        if (begun || oldest === undefined) return read;
        begun = true;
        // More than it would have heard, had it read from the beginning.
        return read.length < 900 ? read : [...Array<typeof oldest>(2_000).fill(oldest), ...read];
      },
    };
  }),
  deadLetters('dead letters are not cut', (good) => {
    const first = new Map<string, RawDeadLetter>();
    return {
      list: async (ref, after, limit) => {
        const letters = await good.list(ref, after, limit);
        const [oldest] = letters;
        if (after !== '' || oldest === undefined) return letters;
        if (!first.has(ref.id)) first.set(ref.id, { ...oldest, fields: ['c', '1   p c0\t{}'] });
        return [first.get(ref.id) as RawDeadLetter, ...letters].slice(0, limit);
      },
    };
  }),
  calls('what runs is told as if it waited', (good) => ({
    pressure: async (refs) =>
      (await good.pressure(refs)).map((one) => ({ ...one, waiting: one.calls })),
  })),
  calls('a call is told to be as old as its entry', (good) => {
    const handedOver = new Set<string>();
    return {
      release: (ref, consumer, release) => {
        handedOver.add(ref.id);
        return good.release(ref, consumer, release);
      },
      pressure: async (refs) =>
        (await good.pressure(refs)).map((one, index) =>
          handedOver.has(refs[index]?.id ?? '') && one.since !== undefined
            ? { ...one, since: one.since + 1 }
            : one,
        ),
    };
  }),
  calls('running calls do not count as backlog', (good) => ({
    submit: (all, terms) => good.submit(all, { ...terms, maxBacklog: terms.maxBacklog + 1 }),
  })),

  // Circuits
  circuits('a circuit never opens', (good) => ({
    report: (ref, report) => good.report(ref, { ...report, failures: 0 }),
  })),
  circuits('a circuit opens below its rate', (good) => ({
    report: (ref, report) =>
      good.report(ref, { ...report, terms: { ...report.terms, failureRate: 0.4 } }),
  })),
  circuits('the first who reports is taken for the only one', (good) => ({
    report: (ref, report) =>
      good.report(ref, { ...report, terms: { ...report.terms, settleMs: 0 } }),
  })),
  circuits('all callers are one', (good) => ({
    report: (ref, report) => good.report(ref, { ...report, caller: 'all' }),
  })),
  circuits('what was counted once counts for ever', (good) => ({
    report: (ref, report) =>
      good.report(ref, { ...report, terms: { ...report.terms, windowMs: 600_000 } }),
    counts: (ref, terms) => good.counts(ref, { ...terms, windowMs: 600_000 }),
  })),
  circuits('a report of another generation counts', (good) => ({
    report: async (ref, report) => {
      const { record } = await good.read(ref, undefined);
      const { generation } = JSON.parse(record || '{"generation":0}') as { generation: number };
      return good.report(ref, { ...report, generation });
    },
  })),
  circuits('what opens a circuit opens it again', (good) => ({
    report: async (ref, report) => {
      const reading = await good.report(ref, report);
      return reading.record.includes('"open"')
        ? good.order(ref, { kind: 'open', reason: 'failure-rate', forMs: report.terms.openMs })
        : reading;
    },
  })),
  heard('changes of a circuit are not told', (tell) => (...message) => {
    if (!message[1].includes('"circuit"')) tell(...message);
  }),
  circuits('a circuit that was reset remembers', (good) => ({
    order: (ref, order) => good.order(ref, order.kind === 'reset' ? { kind: 'close' } : order),
  })),
  circuits('a circuit that is held by hand is tried again', (good) => ({
    order: (ref, order) =>
      good.order(ref, order.kind === 'open' ? { ...order, forMs: order.forMs ?? 1 } : order),
  })),
  circuits('everybody probes', (good) => ({
    probe: async (...probe) => ({ ...(await good.probe(...probe)), granted: true }),
  })),
  circuits('a probe that succeeds shows nothing', (good) => ({
    conclude: (ref, generation, verdict, ms) =>
      good.conclude(ref, generation, verdict === 'success' ? 'none' : verdict, ms),
  })),
  circuits('whoever probed closes the circuit', (good) => ({
    conclude: (ref, generation, verdict, ms) =>
      verdict === 'success'
        ? good.order(ref, { kind: 'close' })
        : good.conclude(ref, generation, verdict, ms),
  })),
  circuits('the lease of a probe is not kept', (good) => ({
    conclude: (ref, generation, verdict, ms) =>
      verdict === 'keep' ? good.read(ref, undefined) : good.conclude(ref, generation, verdict, ms),
  })),
  circuits('something is always counted', (good) => ({
    counts: async (...asked) => {
      const counts = await good.counts(...asked);
      return { ...counts, calls: Math.max(counts.calls, 5) };
    },
  })),
  circuits('a circuit that never was is open', (good) => ({
    read: async (...read) => {
      const { record, timestamp } = await good.read(...read);
      return { record: record || '{"generation":1,"state":"open","since":1}', timestamp };
    },
  })),
  circuits('circuits of all functions are one', (good) => ({
    read: (_, known) => good.read(functionRef('work', 'default'), known),
  })),
  circuits('a circuit that was forgotten stays so', (good) => ({
    read: (ref) => good.read(ref, undefined),
    probe: (ref, caller, leaseMs) => good.probe(ref, caller, leaseMs, undefined),
  })),

  // Workflows
  workflows('a save does not raise the generation', (good) => ({
    save: (workflowId) => good.tell(workflowId, 'ready', 'null'),
  })),
  workflows('a save is told twice', (good) => ({
    save: async (workflowId, details) => {
      await good.save(workflowId, details);
      return good.save(workflowId, details);
    },
  })),
  workflows('other news of a workflow raise its generation', (good) => ({
    tell: async (workflowId, type, details) => {
      await good.save(workflowId, details);
      return good.tell(workflowId, type, details);
    },
  })),
  workflows('generations begin anew when they are forgotten', (good) => {
    let count = 0;
    return {
      save: async (workflowId, details) => {
        count = (await good.current(workflowId)).generation === 0 ? 1 : count + 1;
        return { ...(await good.save(workflowId, details)), generation: count };
      },
    };
  }),
  workflows('two restarts have the lead', (good) => ({
    beginRestart: async (...begin) => {
      await good.beginRestart(...begin);
      return undefined;
    },
  })),
  workflows('any restart gives the lead back', (good) => ({
    endRestart: async (workflowId, restartId) => {
      const asker = { restartId, holder: 'asker', session: '' };
      const held = (await good.beginRestart(workflowId, asker, 60_000)) ?? asker;
      await good.endRestart(workflowId, held.restartId);
    },
  })),
  workflows('every restart has the lead', () => ({
    leadsRestart: () => Promise.resolve(true),
  })),
  workflows('the lead of a restart never ends', (good) => ({
    beginRestart: (workflowId, lease) => good.beginRestart(workflowId, lease, 60_000),
  })),
  workflows('the lead of a restart outlives who has it', (good) => ({
    beginRestart: (workflowId, lease, leaseMs) =>
      good.beginRestart(workflowId, { ...lease, session: '' }, leaseMs),
  })),
  workflows('a restart that is left is told to nobody', (good) => ({
    leaveRestart: (workflowId, legacy, forMs) =>
      good.leaveRestart(workflowId, { ...legacy, sessions: [] }, forMs),
  })),
  workflows('a restart that is left is over', (good) => ({
    leaveRestart: async (workflowId, legacy, forMs) => {
      const isLeft = await good.leaveRestart(workflowId, legacy, forMs);
      if (isLeft) await good.takeRestart(workflowId, { holder: '', session: '' }, 1);
      return isLeft;
    },
  })),
  workflows('a restart that is left is kept for ever', (good) => ({
    leaveRestart: (workflowId, legacy) => good.leaveRestart(workflowId, legacy, 60_000),
  })),
  workflows('an order is sent without the lead', (good, keys, backend) => ({
    orderRestart: async (workflowId, { restartId, sessionId, replyTo }) => {
      const data = { type: 'restart', restartId, workflowId, replyTo };
      const packet = JSON.stringify({ pattern: 'control', data });
      await backend.bus.publish(keys.control(sessionId), packet);
      return good.keepRestart(workflowId, restartId, 60_000);
    },
  })),

  // Generations
  outcomes('a call that is passed on is gone', (outcome) =>
    outcome.kind === 'pass' ? { ...outcome, kind: 'discard' } : outcome,
  ),
  outcomes('a call that is passed on counts as failed', (outcome) =>
    outcome.kind === 'pass' ? { ...outcome, kind: 'retry', failure: '{}' } : outcome,
  ),
  outcomes('a call that is passed on does not wait', (outcome) =>
    outcome.kind === 'pass' ? { ...outcome, delayMs: 0 } : outcome,
  ),
  calls('a generation is served for ever', (good) => ({
    conclude: async (all, consumer) => {
      const [first, ...others] = all;
      if (first?.kind !== 'pass' || others.length > 0) return good.conclude(all, consumer);
      const entries = [{ entryId: first.entryId, started: false }];
      await good.release(first.ref, consumer, { kind: 'handed-back', entries });
      return { lost: [], again: [], why: '' };
    },
  })),
  workers('a worker is of no generation', (good) => ({
    register: (registration) => good.register({ ...registration, generation: 0 }),
  })),
  workflows('a generation that workers have loaded is forgotten', (good) => ({
    current: async (workflowId) => {
      const current = await good.current(workflowId);
      return current.generation < 1_000 ? { generation: 0, details: 'null' } : current;
    },
  })),
];
