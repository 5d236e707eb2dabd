/** What every peer is asked to carry: an object there, and the same object back. */
export interface Payload {
  readonly text: string;
}

/** Where a peer finds its server, and what keeps it apart from other users of it. */
export interface PeerSettings {
  readonly redisUrl: string;
  /** `undefined` when there is no nats-server to be had. */
  readonly natsUrl: string | undefined;
  readonly keyPrefix: string;
}

/** The calling side, in a process of its own. */
export interface PeerCaller {
  /** Resolves to what the worker answered: the payload, as an object. */
  call(payload: Payload): Promise<Payload>;
  close(): Promise<void>;
}

/** A way to call a function in another process. Each file of this folder named after a peer exports one. */
export interface Peer {
  /** Resolves when calls are answered; the result ends the worker. */
  openWorker(settings: PeerSettings): Promise<() => Promise<void>>;
  /** Resolves when the first call can be made without setting anything up. */
  openCaller(settings: PeerSettings): Promise<PeerCaller>;
}

/**
 * Calls that a worker of the project may run at once: above what is ever in flight, because Nest's transport,
 * Moleculer and NATS know no such limit.
 */
export const WORKER_CONCURRENCY = 1_024;
