import { randomBytes } from 'node:crypto';
import { functionRef } from '../protocol/function-ref.js';
import { Keys } from '../protocol/keys.js';
import type {
  BackendUnderTest,
  ConformanceCase,
  Fault,
  GuaranteedPromise,
} from './conformance-case.js';
import { Member } from './member.js';
import { becomes } from './patience.js';

/** What a case works with: processes on one store, under a key prefix of its own. */
export class Scene {
  readonly keys = new Keys(`conformance-${randomBytes(5).toString('hex')}:`);
  readonly ref = functionRef('work', 'default');
  private readonly members: Member[] = [];

  constructor(readonly backend: BackendUnderTest) {}

  /** One more process, connected. */
  async member(keys = this.keys): Promise<Member> {
    const backend = await this.backend.create(keys);
    const id = `process-${randomBytes(4).toString('hex')}`;
    const member = new Member(backend, keys, id);
    this.members.push(member);
    backend.start();
    await becomes('the backend is connected', () =>
      Promise.resolve(backend.isConnected() && backend.bus.isConnected() ? true : undefined),
    );
    return member;
  }

  /** One that has joined and reads the function. */
  async worker(): Promise<Member> {
    return (await (await this.member()).join()).reads(this.ref);
  }

  /** One that listens to replies. */
  async caller(): Promise<Member> {
    return (await this.member()).listens();
  }

  async forget(): Promise<void> {
    await this.backend.forget?.(this.keys);
  }

  async destroyGroup(): Promise<void> {
    await this.backend.destroyGroup?.(this.keys, this.ref);
  }

  /** The result takes away what lies in the place of the function's calls. */
  async spoil(): Promise<() => Promise<void>> {
    return (await this.backend.spoil?.(this.keys, this.ref)) ?? (() => Promise.resolve());
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.vanish()));
  }
}

/** Cases on the level of the ports. */
export function portCases(
  promise: GuaranteedPromise,
  runs: Readonly<Record<string, (scene: Scene) => Promise<void>>>,
  needs?: Fault,
): ConformanceCase[] {
  return Object.entries(runs).map(([name, run]) => ({
    name,
    promise,
    level: 'port',
    needs,
    run: async (backend) => {
      const scene = new Scene(backend);
      try {
        await run(scene);
      } finally {
        await scene.close();
      }
    },
  }));
}
