/**
 * A subscription's pattern as a regular expression, read as Redis reads it: `*` any text, `?` one character,
 * `[abc]`, `[a-c]` and `[^a]` one of a set, and `\` before a character that means itself.
 */
export function globToRegExp(pattern: string): RegExp {
  let source = '';
  for (let at = 0; at < pattern.length; at += 1) {
    const character = pattern.charAt(at);
    if (character === '*') source += '.*';
    else if (character === '?') source += '.';
    else if (character === '[') {
      const set = readSet(pattern, at + 1);
      source += set.source;
      at = set.end;
    } else if (character === '\\' && at + 1 < pattern.length) {
      at += 1;
      source += literal(pattern.charAt(at));
    } else source += literal(character);
  }
  return new RegExp(`^${source}$`, 's');
}

/** The set that begins here; one that is not closed ends with the pattern. */
function readSet(
  pattern: string,
  start: number,
): { readonly source: string; readonly end: number } {
  const negated = pattern.charAt(start) === '^';
  let members = '';
  let at = negated ? start + 1 : start;
  for (; at < pattern.length && pattern.charAt(at) !== ']'; at += 1) {
    if (pattern.charAt(at) === '\\' && at + 1 < pattern.length) at += 1;
    const from = pattern.charAt(at);
    const isRange = pattern.charAt(at + 1) === '-' && at + 2 < pattern.length;
    if (isRange) {
      const to = pattern.charAt(at + 2);
      const [low, high] = from <= to ? [from, to] : [to, from];
      members += `${inSet(low)}-${inSet(high)}`;
      at += 2;
    } else members += inSet(from);
  }
  if (members === '') return { source: negated ? '.' : '(?!)', end: at };
  return { source: `[${negated ? '^' : ''}${members}]`, end: at };
}

function literal(character: string): string {
  return character.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&');
}

function inSet(character: string): string {
  return character.replace(/[\\\]^-]/, '\\$&');
}
