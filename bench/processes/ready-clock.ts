import { Redis } from '../peers/ioredis.js';
import { sharedClockMs } from '../stage/shared-clock.js';

/**
 * Notes when this process hands the command that publishes `ready` to its Redis client, which the library
 * shares: the moment from which both the waiter and the bare subscriber are timed. A command is recognised by
 * the channel among its arguments.
 */
export class ReadyClock {
  private at: number | undefined;

  constructor(channel: string) {
    // The method is put back as it was, with a look at the arguments before it.
    // eslint-disable-next-line @typescript-eslint/unbound-method
    const { sendCommand } = Redis.prototype;
    const look = (args: readonly unknown[]): void => {
      if (args.includes(channel)) this.at = sharedClockMs();
    };
    Redis.prototype.sendCommand = function (this: Redis, command, ...rest) {
      look(command.args);
      return sendCommand.call(this, command, ...rest);
    };
  }

  /** The moment since the last question. */
  take(): number {
    const at = this.at;
    this.at = undefined;
    if (at === undefined) throw new Error('no command that publishes ready was sent');
    return at;
  }
}
