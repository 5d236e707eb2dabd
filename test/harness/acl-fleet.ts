import { hostname } from 'node:os';
import type { INestApplicationContext } from '@nestjs/common';
import { EnhancedFunctionRegistry, type FunctionsOptions } from '../../src/index.js';
import type { StartedRedis } from '../../tools/redis.mjs';
import { createUser, lessened, refusals, rulesOf, wordsOf, type AclBlock } from './acl.js';
import { Fleet } from './apps.js';

/** The users of the tests, made of the blocks of docs/security.md. */
export const USERS = {
  caller: ['Every process', 'Calling'],
  breaker: ['Every process', 'Calling', 'Circuits'],
  worker: ['Every process', 'Hosting'],
  supervisor: ['Every process', 'Supervising'],
  operator: ['Every process', 'Dead letters'],
  director: ['Every process', 'Workflows'],
  watcher: ['Every process', 'Watching metrics'],
} as const satisfies Record<string, readonly AclBlock[]>;
export type User = keyof typeof USERS;

/** What each of them is to the module. */
export const ROLES: Readonly<Record<User, FunctionsOptions>> = {
  caller: { worker: false, supervise: false },
  breaker: { worker: false, supervise: false },
  worker: { supervise: false },
  supervisor: { worker: false },
  operator: { worker: false, supervise: false },
  director: { worker: false, supervise: false },
  watcher: { worker: false, supervise: false },
};

export const PASSWORD = 'a-password';

/** A fleet whose processes have the users of docs/security.md. */
export class AclFleet extends Fleet {
  /** What stands for HOST. */
  readonly host = hostname();

  private constructor(private readonly server: StartedRedis) {
    super(server.url);
  }

  static async on(server: StartedRedis): Promise<AclFleet> {
    const fleet = new AclFleet(server);
    await fleet.redis.acl('LOG', 'RESET');
    for (const [name, blocks] of Object.entries(USERS))
      await createUser(fleet.redis, { name, password: PASSWORD, prefix: fleet.prefix }, blocks);
    return fleet;
  }

  urlOf(user: string): string {
    return this.server.url.replace('//', `//${user}:${PASSWORD}@`);
  }

  /** Gives a user more rights. */
  async grant(user: string, ...rules: string[]): Promise<void> {
    await this.redis.call('ACL', 'SETUSER', user, ...rules);
  }

  /**
   * Leaves a user all rights of the document but these: a command, and what it is allowed on, as the document has
   * it without the prefix. Without any, it has all.
   */
  async takeAway(user: User, ...rules: string[]): Promise<void> {
    const whose = { name: user, password: PASSWORD, prefix: this.prefix };
    let blocks = USERS[user].map((block) => rulesOf(block, whose));
    for (const rule of rules) {
      const less = blocks.map((block) =>
        lessened(block).find(({ without }) => plain(without, this.prefix) === rule),
      );
      if (less.every((found) => found === undefined))
        throw new Error(`${user} has no right ${rule} in docs/security.md`);
      blocks = blocks.map((block, index) => less[index]?.rules ?? block);
    }
    await this.grant(user, 'reset', 'on', `>${PASSWORD}`, ...wordsOf(blocks));
  }

  /** How often Redis refused a command, of whatever user, since the server started. */
  refusedCount(command: string): Promise<number> {
    return this.count(command, 'rejected_calls');
  }

  /** How often Redis carried a command out. */
  callCount(command: string): Promise<number> {
    return this.count(command, 'calls');
  }

  private async count(command: string, field: string): Promise<number> {
    const line = new RegExp(`^cmdstat_${command.replace('|', '\\|')}:(?:.*,)?${field}=(\\d+)`, 'm');
    return Number(line.exec(await this.redis.info('commandstats'))?.[1] ?? 0);
  }

  /** Called when an application of a user is up. */
  onStarted: () => Promise<void> = () => Promise.resolve();

  async startAs(
    user: User,
    providers: unknown[] = [],
    options: FunctionsOptions = {},
  ): Promise<INestApplicationContext> {
    const own = { connection: this.urlOf(user), ...ROLES[user], ...options };
    const app = await this.start({ providers, options: own });
    await this.onStarted();
    return app;
  }

  async caller(): Promise<EnhancedFunctionRegistry> {
    return (await this.startAs('caller')).get(EnhancedFunctionRegistry);
  }

  /** What Redis refused since the fleet was made. */
  refusals(): Promise<string[]> {
    return refusals(this.redis);
  }

  /** A key of a function. */
  key(functionName: string, name: string): string {
    return `${this.prefix}nf:{${functionName}:default}:${name}`;
  }
}

function plain(rule: string, prefix: string): string {
  return rule.replace(/(^| )[~&%RW]+/, '$1').replace(prefix, '');
}
