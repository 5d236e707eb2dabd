/** What the benchmark uses of BullMQ, so that types are checked where it is not installed; `bench:check` compares. */
declare module 'bullmq' {
  export interface ConnectionOptions {
    readonly host: string;
    readonly port: number;
    readonly maxRetriesPerRequest?: null;
  }

  export interface Job<Data, Result> {
    readonly data: Data;
    waitUntilFinished(events: QueueEvents): Promise<Result>;
  }

  export class Queue<Data, Result> {
    constructor(name: string, options: { connection: ConnectionOptions; prefix: string });
    waitUntilReady(): Promise<unknown>;
    add(
      name: string,
      data: Data,
      options: { removeOnComplete: { count: number }; removeOnFail: boolean },
    ): Promise<Job<Data, Result>>;
    close(): Promise<void>;
  }

  export class QueueEvents {
    constructor(name: string, options: { connection: ConnectionOptions; prefix: string });
    waitUntilReady(): Promise<unknown>;
    setMaxListeners(count: number): this;
    close(): Promise<void>;
  }

  export class Worker<Data, Result> {
    constructor(
      name: string,
      processor: (job: Job<Data, Result>) => Promise<Result>,
      options: { connection: ConnectionOptions; prefix: string; concurrency: number },
    );
    waitUntilReady(): Promise<unknown>;
    close(): Promise<void>;
  }
}
