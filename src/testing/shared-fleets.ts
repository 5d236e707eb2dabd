import { InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { quote } from '../common/text.js';
import type { FleetProcess } from './fleet-process.js';
import type { ClockMode } from './test-clock.js';
import { TestFleet } from './test-fleet.js';

/** Fleets that nobody made by hand: they end with their last application. */
export class SharedFleets {
  private readonly named = new Map<string, TestFleet>();
  private readonly own = new Set<TestFleet>();

  /** The fleet that is meant; made, if it is not there. */
  find(choice: {
    readonly fleet?: TestFleet;
    readonly name?: string;
    readonly clock?: ClockMode;
  }): TestFleet {
    const { fleet, name, clock } = choice;
    if (fleet !== undefined) return fleet;
    const known = name === undefined ? undefined : this.named.get(name);
    if (known === undefined) return this.make(name, clock);
    if (clock === undefined || clock === known.clock.mode) return known;
    throw new InvalidArgumentError(
      'clock',
      `'${clock}'`,
      `that of the fleet named ${quote(name ?? '')}, '${known.clock.mode}'`,
    );
  }

  /** A new application of a fleet; with the last one a fleet of this kind ends. */
  admit(fleet: TestFleet, settings: Settings): FleetProcess {
    return fleet.admit(settings, () => this.leave(fleet));
  }

  private make(name: string | undefined, clock: ClockMode | undefined): TestFleet {
    const fleet = new TestFleet({
      ...(name === undefined ? {} : { name }),
      ...(clock === undefined ? {} : { clock }),
    });
    this.own.add(fleet);
    if (name !== undefined) this.named.set(name, fleet);
    return fleet;
  }

  private async leave(fleet: TestFleet): Promise<void> {
    if (!fleet.isEmpty || !this.own.delete(fleet)) return;
    for (const [name, one] of this.named) if (one === fleet) this.named.delete(name);
    await fleet.close();
  }
}
