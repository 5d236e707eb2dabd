import { describe, expect, it } from '@jest/globals';
import type { WorkflowStore } from '../../src/backend/workflow-store.js';
import { TestClock } from '../../src/testing/test-clock.js';
import { LEAD_LEASE_MS, RestartLead } from '../../src/workflow/restart-lead.js';

/** Lets what was begun by a turn of the clock settle. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function leadOn(keep: () => Promise<boolean>) {
  const clock = new TestClock('frozen');
  const ended: string[] = [];
  const store = {
    keepRestart: keep,
    endRestart: (_: string, id: string) => Promise.resolve(void ended.push(id)),
  };
  const lead = new RestartLead(store as unknown as WorkflowStore, clock, 'flow', 'one');
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 500) {
      clock.tick(500);
      await settled();
    }
  };
  return { lead, pass, ended };
}

describe('the lead of a restart', () => {
  it('is lost when it could not be kept for as long as its lease, and not before', async () => {
    let isThere = true;
    const { lead, pass } = leadOn(() =>
      isThere ? Promise.resolve(true) : Promise.reject(new Error('no connection')),
    );
    await pass(LEAD_LEASE_MS);
    isThere = false;
    await pass(LEAD_LEASE_MS - 2_000);
    expect(lead.lost.aborted).toBe(false);
    isThere = true;
    await pass(2_000);
    isThere = false;
    await pass(LEAD_LEASE_MS - 2_000);
    expect(lead.lost.aborted).toBe(false);
    await pass(4_000);
    expect(lead.lost.aborted).toBe(true);
    expect(lead.lostError().message).toContain('did not reach Redis for too long');
  });

  it('is lost at once when another has it', async () => {
    const { lead, pass } = leadOn(() => Promise.resolve(false));
    await pass(LEAD_LEASE_MS / 3);
    expect(lead.lost.aborted).toBe(true);
  });

  it.each([true, false])('is given back once, unless others have it now: %s', async (isLeft) => {
    let kept = 0;
    const { lead, pass, ended } = leadOn(() => Promise.resolve((kept += 1) > 0));
    if (isLeft) lead.letGo();
    await lead.giveBack();
    expect(ended).toEqual(isLeft ? [] : ['one']);
    await pass(2 * LEAD_LEASE_MS);
    expect(kept).toBe(0);
  });
});
