import { describe, expect, it } from '@jest/globals';
import { TickBatch } from '../../src/common/batch.js';

function setUp(): { batch: TickBatch<number>; handed: number[][] } {
  const handed: number[][] = [];
  return { batch: new TickBatch<number>((items) => handed.push(items)), handed };
}

/** The end of the current tick and of everything it queued. */
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a tick batch', () => {
  it('hands over together, in order, what one tick added', async () => {
    const { batch, handed } = setUp();
    batch.add(1);
    batch.add(2);
    batch.add(3);
    await nextTurn();
    expect(handed).toEqual([[1, 2, 3]]);
  });

  it('hands over what is much before the tick ends, in order', async () => {
    const { batch, handed } = setUp();
    const items = Array.from({ length: 300 }, (_, item) => item);
    for (const item of items) batch.add(item);
    expect(handed.map(({ length }) => length)).toEqual([128, 128]);
    await nextTurn();
    expect(handed.map(({ length }) => length)).toEqual([128, 128, 44]);
    expect(handed.flat()).toEqual(items);
  });

  it('hands over nothing within the tick', () => {
    const { batch, handed } = setUp();
    batch.add(1);
    expect(handed).toEqual([]);
  });

  it('hands over together what the promises of one tick add', async () => {
    const { batch, handed } = setUp();
    const adds = [1, 2, 3].map(async (item) => {
      await Promise.resolve();
      await Promise.resolve();
      batch.add(item);
    });
    await Promise.all(adds);
    await nextTurn();
    expect(handed).toEqual([[1, 2, 3]]);
  });

  it('hands over a lone item in its own turn of the event loop', async () => {
    const { batch, handed } = setUp();
    const turn = nextTurn();
    batch.add(1);
    await turn;
    expect(handed).toEqual([[1]]);
  });

  it('keeps ticks apart', async () => {
    const { batch, handed } = setUp();
    batch.add(1);
    await nextTurn();
    batch.add(2);
    await nextTurn();
    expect(handed).toEqual([[1], [2]]);
  });

  it('hands over at once when it is flushed, and not again', async () => {
    const { batch, handed } = setUp();
    batch.add(1);
    batch.flush();
    expect(handed).toEqual([[1]]);
    await nextTurn();
    expect(handed).toEqual([[1]]);
  });

  it('hands over nothing when there is nothing', () => {
    const { batch, handed } = setUp();
    batch.flush();
    expect(handed).toEqual([]);
  });

  it('hands over what is added while it hands over', async () => {
    const handed: number[][] = [];
    const batch: TickBatch<number> = new TickBatch((items) => {
      handed.push(items);
      if (items[0] === 1) batch.add(2);
    });
    batch.add(1);
    await nextTurn();
    expect(handed).toEqual([[1], [2]]);
  });
});
