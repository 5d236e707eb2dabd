import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const UNREACHABLE = 'E: Failed to fetch the package lists: could not connect';

/** Environments of machines that have no Redis, and cannot get one. */
export class BareMachines {
  private readonly folders: string[] = [];

  /** Nothing is on its PATH, and no copy was fetched before. */
  withoutAnything(): Record<string, string> {
    const folder = this.folder();
    return { PATH: folder, REDIS_CACHE_DIR: join(folder, 'cache') };
  }

  /** It could fetch packages, but reaches nobody. */
  withoutNetwork(): Record<string, string> & { readonly reason: string } {
    const machine = this.withoutAnything();
    const command = join(machine['PATH'] ?? '', 'apt-get');
    writeFileSync(command, `#!/bin/sh\necho '${UNREACHABLE}' >&2\nexit 100\n`);
    chmodSync(command, 0o755);
    return { ...machine, reason: UNREACHABLE };
  }

  remove(): void {
    for (const folder of this.folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  }

  private folder(): string {
    const folder = mkdtempSync(join(tmpdir(), 'bare-machine-'));
    this.folders.push(folder);
    return folder;
  }
}
