import { namingBrokenKey } from './key-types.js';
import type { RedisConnection } from './redis-connection.js';
import { runScript, type Script } from './scripts.js';

/** Runs scripts on the command connection; a key that keeps one from running is named in its error. */
export class ScriptRunner {
  constructor(private readonly commands: RedisConnection) {}

  /**
   * @param others keys that the script makes of its arguments
   * @throws BrokenKeyError, BackendUnavailableError, ClosedError
   */
  async run(
    operation: string,
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
    others: readonly string[] = [],
  ): Promise<unknown> {
    try {
      return await this.commands.command(operation, (client) =>
        runScript(client, script, keys, args),
      );
    } catch (error) {
      throw await namingBrokenKey(this.commands, [...keys, ...others], error);
    }
  }
}
