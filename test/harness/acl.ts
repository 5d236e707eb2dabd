import { hostname } from 'node:os';
import type { Redis } from 'ioredis';
import { readText } from '../docs/markdown.js';

/** A block of rules in docs/security.md, by its heading. */
export type AclBlock = 'Every process' | 'Calling' | 'Hosting' | 'Supervising' | 'Dead letters';

/** What stands for the words in capitals. */
export interface AclUser {
  readonly name: string;
  readonly password: string;
  readonly prefix: string;
  /** A glob for host names; default: this host's. */
  readonly host?: string;
  /** Names it may have to do with, `work:default`; default: all. */
  readonly functions?: string;
}

/** The lines of a block, as the document has them. */
export function aclLines(block: AclBlock): string[] {
  const lines = new RegExp(`^### ${block}\\n[^]*?\`\`\`text\\n([^]*?)\`\`\``, 'm').exec(
    readText('docs/security.md'),
  )?.[1];
  if (lines === undefined) throw new Error(`docs/security.md has no rules of "${block}"`);
  return lines.trim().split('\n');
}

/** Makes a user of the document's blocks, as somebody does who pastes its lines into redis-cli. */
export async function createUser(
  admin: Redis,
  user: AclUser,
  blocks: readonly AclBlock[],
): Promise<void> {
  for (const line of blocks.flatMap(aclLines)) {
    const words = line
      .replace('USERNAME', user.name)
      .replace('PASSWORD', user.password)
      .replaceAll('nf:{*}', `nf:{${user.functions ?? '*'}}`)
      .replaceAll('PREFIX', user.prefix)
      .replaceAll('HOST', user.host ?? hostname())
      .split(' ');
    await admin.call(words[0] ?? '', ...words.slice(1));
  }
}

/** What ACL LOG holds: whom Redis refused what, and where. */
export async function refusals(admin: Redis): Promise<string[]> {
  const entries = (await admin.acl('LOG')) as (string | number)[][];
  return entries.map((flat) => {
    const of = (field: string): string => String(flat[flat.indexOf(field) + 1]);
    return `${of('username')}: ${of('reason')} ${of('object')} (${of('context')})`;
  });
}
