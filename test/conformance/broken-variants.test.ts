import { afterAll, describe, expect, it } from '@jest/globals';
import {
  conformanceCases,
  conformanceCasesFor,
  type BackendUnderTest,
} from '../../src/conformance/index.js';
import { onMemory, onRedis } from './backends.js';
import { brokenVariants, type BrokenVariant } from './broken-variants.js';

/** Which cases find out which variant. Every case on the level of the ports is here: none passes whatever one does. */
const FOUND_BY: Readonly<Record<string, readonly string[]>> = {
  'a reader is woken late: it looks again when its time is up': [
    'a read that waits gets a call the moment it is added',
  ],
  'who waits looks now and then instead of standing in line': ['who waits longest is served first'],
  'a reset leaves the connection as it is': [
    'a read of calls that is reset ends, counts a new connection, and loses nothing',
  ],
  'a reset of the read of replies leaves the connection as it is': [
    'a read of replies that is reset ends, counts a new connection, and loses nothing',
  ],
  'all connections of a reader are one': [
    'a read of calls that is reset ends, counts a new connection, and loses nothing',
  ],
  'all connections of a read of replies are one': [
    'a read of replies that is reset ends, counts a new connection, and loses nothing',
  ],
  'a consumer does not learn what it has': [
    'a read of calls that is reset ends, counts a new connection, and loses nothing',
  ],
  'what came while a read of replies was reset is lost': [
    'a read of replies that is reset ends, counts a new connection, and loses nothing',
  ],
  'every function is broken': ['a function whose calls can be read is not called broken'],
  'no function is ever broken': [
    'a function whose calls somebody else overwrote is called broken, until that is gone',
  ],
  'a caller is woken late': [
    'a caller that waits gets its reply the moment it is written',
    'a backend that is closed answers no more, and whoever waits learns it',
  ],
  'a waiting read cannot be woken': [
    'a read that waits ends when it is woken, and when its time is up',
    'who waits for the bell is woken, also without a call',
  ],
  'the bell is heard late': [
    'the bell rings for a call of any function, and wakes who waits',
    'a call that is handed over rings the bell',
    'the last worker of a pool that leaves a function takes its bell away',
  ],
  'a look at the pool says that nothing is left': [
    'a function that has no place is passed over',
    'who cannot take everything leaves the rest to the next one',
  ],
  'a subscription is acknowledged before it is in place': [
    'a subscription that is acknowledged hears everything from then on, in its order',
  ],
  'a pattern is taken for a name': [
    'a pattern hears the channels that fit it, and its own characters mean themselves',
  ],
  'news come in another order': [
    'a pattern hears the channels that fit it, and its own characters mean themselves',
  ],
  'news of a worker that left are lost': ['all news of a worker are told, each with a higher seq'],
  'news come twice': [
    'a pattern hears the channels that fit it, and its own characters mean themselves',
    'a message goes to each subscriber once, and its receivers are counted',
  ],
  'a process does not hear that its worker was removed': [
    'the process of a worker hears what others say of it',
  ],
  'a change of an older epoch is accepted': [
    'a change of an older epoch changes nothing and tells nothing',
  ],
  'a worker of an older epoch, or another session, removes the present one': [
    'a worker of an older epoch, or of another session, removes nobody',
  ],
  'a worker that comes back has the epoch that it had': [
    'each life of a worker has a higher epoch than the one before',
  ],
  'health brings a draining worker back': ['health does not bring a draining worker back'],
  'a channel is heard under every prefix': ['news of another key prefix are not heard'],
  'ready is told before the record is there': [
    'who hears ready finds the worker in the registry',
    'ready tells the record that was written',
  ],
  'a condemned session may register': [
    'a session that did not join, or was condemned, registers nothing',
  ],
  'a settle that is not owned any more is told to the caller all the same': [
    'a settle answers and removes the call, and a second one changes nothing',
    'the settle of a worker that lost its call changes nothing',
  ],
  'a settle does not remove its call': [
    'a settle answers and removes the call, and a second one changes nothing',
    'a caller that is gone costs nothing: its call is settled, and no stream made',
  ],
  'an answer on the way removes its call': [
    'an answer that comes before the end keeps the call with its worker',
  ],
  'a result is removed without being told': [
    'a settle answers and removes the call, and a second one changes nothing',
    'replies of one process are not heard by another',
  ],
  'what is said in one go is carried out in another order': [
    'what is said of calls in one go is carried out in its order',
  ],
  'a call is lost when several are submitted at once': [
    'every call is delivered to one consumer, once, in the order of submission',
  ],
  'a call is delivered twice': [
    'every call is delivered to one consumer, once, in the order of submission',
  ],
  'calls are delivered in another order': [
    'every call is delivered to one consumer, once, in the order of submission',
    'a worker that is lost loses all that it held, and what others hold stays theirs',
  ],
  'a reply comes twice': [
    'a settle answers and removes the call, and a second one changes nothing',
    'replies that were read, and dropped from the stream, do not come again',
  ],
  'a call forgets that it must run at most once': ['a call travels to its worker as it was given'],
  'every key prefix holds the same': ['calls under one key prefix are not seen under another'],
  'a group begins with what comes after it': [
    'calls that were added before the group was made are read by it',
    'the bell rings for calls that came before anybody waited, and before there was a bell',
  ],
  'calls of a lost worker are lost with it': [
    'a call whose worker is lost runs elsewhere, as a further attempt of the same call',
  ],
  'a call that must run at most once runs again': [
    'a call that must run at most once is answered, and not run again',
  ],
  'a call that kills its workers is never given up': [
    'who shares a call that is handed over learns its new place, and who shares one that is given up, the reason',
    'a call that lost its worker too often goes to the dead letters',
  ],
  'a call that is handed back counts as lost': [
    'a call that is handed back runs elsewhere at once, and lost no worker',
    'a call that must run at most once is handed back unless it has started',
  ],
  'a further attempt looks like the first': [
    'a call whose worker is lost runs elsewhere, as a further attempt of the same call',
  ],
  'a call that is handed over gets its time anew': [
    'a call whose worker is lost runs elsewhere, as a further attempt of the same call',
  ],
  'the new place of a call is not told': [
    'a call that is handed over can be cancelled under the id that its caller was told',
  ],
  'calls with one key each run': [
    'calls with one key run once, and all get the result, now and later',
  ],
  'all keys are one': [
    'calls with another key, or without one, run by themselves',
    'a shared call goes on when one leaves it, and is taken out when nobody is left',
  ],
  'the result of a shared call is not kept': ['a result answers for as long as it is kept'],
  'the result of a shared call is kept for ever': ['a result answers for as long as it is kept'],
  'only the first of those who share a call is told': [
    'progress and an early answer of a shared call reach all who share it',
    'a failure is told to all who wait, and the next call with the key runs',
  ],
  'a failed call does not wait for its next attempt': [
    'calls come back in the order in which they are due',
  ],
  'calls that wait for another attempt are forgotten': [
    'calls come back in the order in which they are due',
  ],
  'a call that is given up leaves no dead letter': [
    'the last ten failures of a call are kept',
    'a call that fails for the last time is answered, and lies among the dead letters',
  ],
  'a dead letter that is called again stays': [
    'dead letters are listed page by page, removed, and called again as first attempts',
  ],
  'each page of dead letters is the first': [
    'dead letters are listed page by page, removed, and called again as first attempts',
  ],
  'what a destroyed group had is not put back': [
    'a group that was destroyed is made again: what is claimed goes on, the rest is put back',
  ],
  'what a session holds does not go to the next one': [
    'what one session of a process holds goes to its next one',
  ],
  'nobody is ever missed': ['a process that ends without a word is missed at once'],
  'a lease never runs out': ['a lease that ran out is taken again by who was not condemned'],
  'a session is condemned although it lives': [
    'a lease that is not kept runs out, and one that is kept does not',
    'a process that comes back in the last moment is not condemned',
  ],
  'what a session hosted before is not looked for': [
    'a worker that left is hosted no longer, and the calls of its function are still looked for',
  ],
  'everybody supervises': ['an office that is not kept is free again'],
  'an office is never free again': [
    'one supervises and one is its deputy, until they step down or are gone',
  ],
  'a read that is gone is still seen': ['a process that ends without a word is missed at once'],
  'delayed calls are never due': [
    'a failed call waits for its next attempt, and not longer than that',
  ],
  'a condemned session is told that it lives': [
    'a lease that is not kept runs out, and one that is kept does not',
    'a process that is condemned learns it, and stays so until it is buried',
  ],
  'a session without presence is missed all the same': [
    'a process that said it has no presence is not missed',
  ],
  'a call that was long on its way has all of its time': [
    "a call's time runs while it is on its way, and goes on running when it is handed over",
  ],
  'a cancelled call runs all the same': [
    'a waiting call that is cancelled is taken out',
    'a call that waits for its next attempt can be cancelled',
  ],
  'the worker of a cancelled call does not hear of it': [
    'the worker of a running call hears of its cancellation',
  ],
  "the clock of another host is taken for the store's": [
    "an entry's id is its time on the store's clock",
  ],
  'workers whose process is gone look alive': ['the registry tells living workers from stale ones'],
  'workers of all workflows are one': ['the snapshot of a function is of that function'],
  'a definition that is removed stays': [
    'the definition that was registered last is the one that is found',
    'the functions of a workflow are listed, and those of no other',
  ],
  'a reader that is closed goes on taking calls': [
    'a reader that is closed takes nothing any more',
  ],
  'a process that left is missed': ['a process that leaves is missed by nobody'],
  'a process hands back what others hold': [
    'a process hands back what is its own, and nothing else',
  ],
  'a caller does not learn that its calls were forgotten': [
    'who was forgotten learns it, caller and worker',
  ],
  'nobody is heard to listen': ['health is asked for exactly while somebody listens'],
  'a function has as many calls as anybody likes': [
    'a function has no more calls than its backlog allows, waiting and running',
  ],
  'progress knows no bound': [
    'a reply stream that nobody reads takes no progress above its cap, and still the answer',
  ],
  'who shares a call and does not read has all its progress kept': [
    'who shares a call and does not read is told no progress above the cap either',
  ],
  'dead letters are not cut': ['dead letters are cut at their cap, the oldest first'],
  'what runs is told as if it waited': [
    'whoever measures is told how many calls wait and run, and since when',
  ],
  'a call is told to be as old as its entry': [
    'whoever measures is told how many calls wait and run, and since when',
  ],
  'running calls do not count as backlog': [
    'a function has no more calls than its backlog allows, waiting and running',
  ],
  'calls are never given': [
    'a call that is passed on comes to one of its generation that waits for a bell, and not to who reads directly',
  ],
  'the bell does not say that it rang': [
    'the bell rings for a call of any function, and wakes who waits',
  ],
  'more is given than was offered': [
    'calls are given to who waits within its offer, or it takes them, each once',
  ],
  'what was given is told again': [
    'calls are given to who waits within its offer, or it takes them, each once',
  ],
  'a call that comes between two waits is lost': [
    'an offer holds on after the wait until it is taken back',
  ],
  'what one pool had is lost with the group of the next one': [
    'what one pool had is told although the group of a function in the next one is gone',
  ],
  'nothing is ever due': ['the bell rings for a call of any function, and wakes who waits'],
  'a deputy does not hear of looks': [
    'the deputy hears of each look, keeps its office, and loses it when it is gone',
  ],
  'both offices are always held': [
    'the deputy hears of each look, keeps its office, and loses it when it is gone',
  ],
  'everybody keeps the office of the deputy': [
    'the deputy hears of each look, keeps its office, and loses it when it is gone',
  ],
  'a lease that is gone is renewed': ['a lease is renewed while there is one'],
  'what nobody claimed is never seen': [
    'a group that was destroyed is made again: what is claimed goes on, the rest is put back',
  ],
  'no function has a record': ['functions that have a worker are counted, stale ones too'],
  'a circuit never opens': [
    'it opens when enough calls failed, over all callers, and not before',
    'it opens at the failure rate, and not below it',
  ],
  'a circuit opens below its rate': ['it opens at the failure rate, and not below it'],
  'the first who reports is taken for the only one': [
    'nothing opens before all who call have had the time to report',
  ],
  'all callers are one': [
    'one caller that fails alone does not open it for all, whatever it calls',
    'a quorum of the callers has to see it, however many there are',
  ],
  'what was counted once counts for ever': [
    'what is older than the window does not count, nor who counted it',
  ],
  'a report of another generation counts': [
    'reports of calls that began before a change are dropped',
  ],
  'what opens a circuit opens it again': ['two reports that open it open it once, in both orders'],
  'changes of a circuit are not told': [
    'it opens when enough calls failed, over all callers, and not before',
    'one that is open, and forgotten, is written back by who knows it, once',
  ],
  'a circuit that was reset remembers': [
    'a reset forgets what was counted, and closing what is closed does not',
  ],
  'a circuit that is held by hand is tried again': [
    'it is opened by hand, for a while or until it is closed',
  ],
  'everybody probes': ['one caller probes when it is due, and nobody else does'],
  'a probe that succeeds shows nothing': [
    'what a probe shows closes the circuit, or opens it again',
  ],
  'whoever probed closes the circuit': [
    'a probe that is kept is not taken over, and one that is not is',
    'a probe that was ended by hand says nothing, in both orders',
  ],
  'the lease of a probe is not kept': [
    'a probe that is kept is not taken over, and one that is not is',
  ],
  'something is always counted': ['nothing is counted while it is not closed'],
  'a circuit that never was is open': ['a circuit of which nothing is known is closed'],
  'circuits of all functions are one': [
    'circuits of two functions, and of two key prefixes, are not one',
  ],
  'a circuit that was forgotten stays so': [
    'one that is open, and forgotten, is written back by who knows it, once',
    'one that is due, and forgotten, is probed by who knows it',
  ],
  'a save does not raise the generation': [
    'a save raises the generation, and tells it in the same step',
  ],
  'a save is told twice': ['a save raises the generation, and tells it in the same step'],
  'other news of a workflow raise its generation': [
    'other news of a workflow are told with its generation, and do not raise it',
  ],
  'generations begin anew when they are forgotten': [
    'a generation is higher than all before it, also when everything was forgotten',
  ],
  'two restarts have the lead': ['one restart of a workflow has the lead, until it gives it back'],
  'any restart gives the lead back': [
    'one restart of a workflow has the lead, until it gives it back',
  ],
  'every restart has the lead': ['one restart of a workflow has the lead, until it gives it back'],
  'the lead of a restart never ends': ['the lead of a restart ends with its lease'],
  'the lead of a restart outlives who has it': [
    'the lead of a restart is free once the session that has it is gone',
  ],
  'a restart that is left is told to nobody': [
    'a restart that is left is carried on by the first that takes it',
  ],
  'a restart that is left is over': [
    'a restart that is left is carried on by the first that takes it',
  ],
  'a restart that is left is kept for ever': [
    'a restart that is left and that nobody takes is over after its time',
  ],
  'an order is sent without the lead': ['who has the lead of a restart orders it, and nobody else'],
  'a call that is passed on is gone': [
    'a call that is passed on is taken again, as the same attempt, while its generation is served',
  ],
  'a call that is passed on counts as failed': [
    'a call that is passed on is taken again, as the same attempt, while its generation is served',
    'a call that was passed on as often as there are workers waits aside, and comes when it is due',
    'a call that is passed on for long waits longer each time, up to a bound',
  ],
  'a call that is passed on does not wait': [
    'a call that was passed on as often as there are workers waits aside, and comes when it is due',
    'a call that is passed on for long waits longer each time, up to a bound',
  ],
  'a generation is served for ever': [
    'a call whose generation nobody serves any more is answered, and its key is free',
  ],
  'a worker is of no generation': [
    'a worker is registered, and told, with the generation that it has loaded',
    'the highest generation that a worker has loaded is that of its workflow',
  ],
  'a generation that workers have loaded is forgotten': [
    'the highest generation that a worker has loaded is that of its workflow',
  ],
};
/** What applications notice of some of them. */
const NOTICED: readonly (readonly [title: string, name: string])[] = [
  [
    'a reader is woken late: it looks again when its time is up',
    'a call that waits for its worker is answered the moment there is one',
  ],
  [
    'calls of a lost worker are lost with it',
    'calls of a process that is gone run elsewhere, or are answered when they must run at most once',
  ],
  [
    'a call that must run at most once runs again',
    'calls of a process that is gone run elsewhere, or are answered when they must run at most once',
  ],
  ['calls with one key each run', 'calls with one idempotency key run once'],
  [
    'calls that wait for another attempt are forgotten',
    'a handler that fails is tried again, and its call can be called again from the dead letters',
  ],
  [
    'a result is removed without being told',
    'a call of an application gets the result, and the error, of its handler',
  ],
  [
    'the worker of a cancelled call does not hear of it',
    'a cancellation reaches the handler that runs, and a call that waits does not start',
  ],
  ['the bell is heard late', 'calls of more functions than are read directly are answered at once'],
  [
    'what is said in one go is carried out in another order',
    'progress comes in its order, and before the result',
  ],
  [
    'a call is lost when several are submitted at once',
    'a thousand calls at once are all answered, each with its own result',
  ],
];

function broken(good: BackendUnderTest, variant: BrokenVariant): BackendUnderTest {
  const create: BackendUnderTest['create'] = async (keys) =>
    variant.break(await good.create(variant.keys?.(keys) ?? keys), keys);
  return { ...good, create };
}

const findings = brokenVariants.flatMap((variant) =>
  [
    ...(FOUND_BY[variant.title] ?? []),
    ...NOTICED.filter(([title]) => title === variant.title).map(([, name]) => name),
  ].map((name) => ({ variant, title: variant.title, name })),
);
/** Of an application on it, in time; anything else would be an accident of the test. */
const FAILURES: readonly unknown[] = ['AssertionError', 'DeadlineExceededError'];

const ON_MEMORY = onMemory();
const ON_REDIS = onRedis();

describe.each([ON_MEMORY, ON_REDIS])('on $title', (good) => {
  afterAll(() => good.close());

  const cases = conformanceCasesFor(good);
  const mine = findings.filter(({ name }) => cases.some((one) => one.name === name));

  it.concurrent.each(mine)('"$title" is found out by "$name"', async ({ variant, name }) => {
    const found = cases.find((one) => one.name === name);
    const failure: unknown = await found?.run(broken(good, variant)).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(FAILURES).toContain((failure as Error | undefined)?.name);
  });
});

describe('the broken variants', () => {
  it('are all tried on Redis, and but for faults that memory does not have on it, too', () => {
    const names = (good: BackendUnderTest): string[] =>
      conformanceCasesFor(good).map(({ name }) => name);
    expect(names(ON_REDIS)).toHaveLength(conformanceCases.length);
    expect(conformanceCases.length - names(ON_MEMORY).length).toBe(1);
  });

  it('are each found out by a case', () => {
    expect(brokenVariants.map(({ title }) => title).sort()).toEqual(Object.keys(FOUND_BY).sort());
    expect(findings.length).toBeGreaterThanOrEqual(brokenVariants.length);
  });

  it('make every case on the level of the ports fail, one or the other', () => {
    const failing = new Set(findings.map(({ name }) => name));
    const names = conformanceCases.filter(({ level }) => level === 'port').map(({ name }) => name);
    expect(names.filter((name) => !failing.has(name))).toEqual([]);
  });
});
