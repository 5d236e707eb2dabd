/** What the benchmark uses of the NATS client, so that types are checked where it is not installed; `bench:check` compares. */
declare module '@nats-io/transport-node' {
  export interface Msg {
    json<T>(): T;
    respond(payload: string): boolean;
  }

  export interface NatsConnection {
    subscribe(
      subject: string,
      options: { callback: (error: Error | null, message: Msg) => void },
    ): unknown;
    request(subject: string, payload: string, options: { timeout: number }): Promise<Msg>;
    flush(): Promise<void>;
    drain(): Promise<void>;
    close(): Promise<void>;
  }

  export function connect(options: { servers: string }): Promise<NatsConnection>;
}
