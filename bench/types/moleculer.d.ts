/** What the benchmark uses of Moleculer, so that types are checked where it is not installed; `bench:check` compares. */
declare module 'moleculer' {
  export interface Context<Params> {
    readonly params: Params;
  }

  export class ServiceBroker {
    constructor(options: {
      namespace: string;
      nodeID: string;
      transporter: string;
      logger: false;
      metrics: false;
      tracing: false;
    });
    createService(schema: {
      name: string;
      actions: Record<string, (context: Context<unknown>) => unknown>;
    }): unknown;
    start(): Promise<void>;
    stop(): Promise<void>;
    waitForServices(names: string[], timeoutMs: number): Promise<unknown>;
    call<Result, Params>(action: string, params: Params): Promise<Result>;
  }
}
