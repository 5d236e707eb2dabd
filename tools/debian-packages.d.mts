/** The first executable of that name on the PATH. */
export function findOnPath(name: string): string | undefined;

/** Runs apt-get, in a folder when one is named. */
export type Apt = (args: readonly string[], cwd?: string) => Promise<unknown>;

/** apt-get with lists and caches of its own in `dir`: no root, and the machine's state stays untouched. */
export function privateApt(dir: string): Promise<Apt>;

/** Downloads packages into a folder and unpacks them under another. */
export function unpack(
  apt: Apt,
  names: readonly string[],
  into: string,
  root: string,
): Promise<void>;
