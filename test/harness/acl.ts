import { hostname } from 'node:os';
import type { Redis } from 'ioredis';
import { readText } from '../docs/markdown.js';

/** A block of rules in docs/security.md, by its heading. */
export type AclBlock =
  | 'Every process'
  | 'Calling'
  | 'Circuits'
  | 'Hosting'
  | 'Supervising'
  | 'Dead letters'
  | 'Workflows'
  | 'Watching metrics';

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
function aclLines(block: AclBlock): string[] {
  const lines = new RegExp(`^### ${block}\\n[^]*?\`\`\`text\\n([^]*?)\`\`\``, 'm').exec(
    readText('docs/security.md'),
  )?.[1];
  if (lines === undefined) throw new Error(`docs/security.md has no rules of "${block}"`);
  return lines.trim().split('\n');
}

/** The commands of a block for a user, as somebody pastes them into redis-cli. */
function commandsOf(block: AclBlock, user: AclUser): string[][] {
  return aclLines(block).map((line) =>
    line
      .replace('USERNAME', user.name)
      .replace('PASSWORD', user.password)
      .replaceAll('nf:{*}', `nf:{${user.functions ?? '*'}}`)
      .replaceAll('PREFIX', user.prefix)
      .replaceAll('HOST', user.host ?? hostname())
      .split(' '),
  );
}

/** Makes a user of the document's blocks. */
export async function createUser(
  admin: Redis,
  user: AclUser,
  blocks: readonly AclBlock[],
): Promise<void> {
  for (const words of blocks.flatMap((block) => commandsOf(block, user)))
    await admin.call(words[0] ?? '', ...words.slice(1));
}

/** Rules that hold together: those outside of parentheses, or those in one pair of them. */
type RuleSet = readonly string[];

/** The rules of a block: what stands outside of parentheses, and each pair of them. */
export interface BlockRules {
  readonly root: RuleSet;
  readonly selectors: readonly RuleSet[];
}

export function rulesOf(block: AclBlock, user: AclUser): BlockRules {
  const text = commandsOf(block, user)
    .map((words) => words.slice(3).join(' '))
    .join(' ');
  const selectors = [...text.matchAll(/\(([^)]*)\)/g)].map(([, inner = '']) => inner.split(' '));
  const root = text
    .replace(/\([^)]*\)/g, '')
    .split(' ')
    .filter((word) => /^[+~&%]/.test(word));
  return { root, selectors };
}

/** The rules as one ACL SETUSER has them. */
export function wordsOf(blocks: readonly BlockRules[]): string[] {
  return blocks.flatMap(({ root, selectors }) => [
    ...root,
    ...selectors.filter((rules) => rules.length > 0).map((rules) => `(${rules.join(' ')})`),
  ]);
}

/** A block without one thing that it allows, and what that is. */
export interface Lessened {
  readonly without: string;
  readonly rules: BlockRules;
}

/**
 * Every way to allow one thing less: a word less outside of parentheses; one command on one key or channel less
 * inside; keys that can only be read, or only be written.
 */
export function lessened({ root, selectors }: BlockRules): Lessened[] {
  const less: Lessened[] = root.map((word) => ({
    without: word,
    rules: { root: root.filter((other) => other !== word), selectors },
  }));
  for (const [index, rules] of selectors.entries()) {
    const others = selectors.filter((_, at) => at !== index);
    const commands = rules.filter((word) => word.startsWith('+'));
    const places = rules.filter((word) => !word.startsWith('+'));
    const instead = (without: string, ...sets: RuleSet[]): void =>
      void less.push({ without, rules: { root, selectors: [...others, ...sets] } });
    for (const place of places) {
      const elsewhere = places.filter((other) => other !== place);
      for (const command of commands) {
        const rest = commands.filter((other) => other !== command);
        const kept = [rest.length > 0 ? [...rest, ...places] : []];
        if (elsewhere.length > 0) kept.push([command, ...elsewhere]);
        instead(`${command} ${place}`, ...kept);
      }
      if (!place.startsWith('~')) continue;
      for (const half of ['%R', '%W']) {
        const narrowed = [...commands, half + place, ...elsewhere];
        instead(`all but ${half} of ${place} for ${commands.join(' ')}`, narrowed);
      }
    }
  }
  return less;
}

/** What ACL LOG holds: whom Redis refused what, and where. */
export async function refusals(admin: Redis): Promise<string[]> {
  const entries = (await admin.acl('LOG')) as (string | number)[][];
  return entries.map((flat) => {
    const of = (field: string): string => String(flat[flat.indexOf(field) + 1]);
    return `${of('username')}: ${of('reason')} ${of('object')} (${of('context')})`;
  });
}
