import { Logger } from '@nestjs/common';

/**
 * Scripts change something and tell it in one step. A Redis user that may not publish changes it all the same; that
 * others do not hear of it is said once in the life of a process.
 */
export class UntoldNews {
  private readonly logger = new Logger('REDIS');
  private said = false;

  /** @param why what Redis answered to PUBLISH; `''` when it told it */
  note(why: string): void {
    if (why === '' || this.said) return;
    this.said = true;
    this.logger.warn(
      `the Redis user of this process may not publish (${why}): others learn late that its workers come, change and ` +
        'leave, and cancellations do not reach handlers. docs/security.md lists the channels that its user needs.',
    );
  }
}
