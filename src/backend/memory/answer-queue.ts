import { setImmediate } from 'node:timers';

/**
 * What the server tells: a command is carried out when it is given, and its answer comes in a later turn of the
 * event loop, as one over a socket does. An application that asks in a loop, or calls in a chain, lets timers and
 * sockets of the process have their turn that way. No timer of a clock is needed, and all of a turn travel together.
 */
export class AnswerQueue {
  private tasks: (() => void)[] = [];
  private readonly flushTask = (): void => this.flush();

  /** Whether something is on its way. */
  get isBusy(): boolean {
    return this.tasks.length > 0;
  }

  /** Runs a task in the next turn, after those that were added before. */
  add(task: () => void): void {
    if (this.tasks.push(task) === 1) setImmediate(this.flushTask);
  }

  answer<T>(value: T): Promise<T> {
    return new Promise((resolve) => this.add(() => resolve(value)));
  }

  refuse(error: Error): Promise<never> {
    return new Promise((_, reject) => this.add(() => reject(error)));
  }

  private flush(): void {
    const tasks = this.tasks;
    this.tasks = [];
    for (const task of tasks) task();
  }
}
