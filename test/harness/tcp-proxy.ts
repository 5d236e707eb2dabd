import { connect, createServer, type Server, type Socket } from 'node:net';

/** A TCP proxy in front of Redis whose connections a test can cut or hold half-open. */
export class TcpProxy {
  private readonly pairs = new Set<{ client: Socket; server: Socket }>();
  private readonly dropped = new Set<Socket>();
  private held = false;
  private refusing = false;

  private constructor(
    private readonly listener: Server,
    private readonly targetPort: number,
  ) {}

  static async start(targetUrl: string): Promise<TcpProxy> {
    const targetPort = Number(new URL(targetUrl).port);
    const listener = createServer();
    const proxy = new TcpProxy(listener, targetPort);
    listener.on('connection', (socket) => proxy.join(socket));
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    const address = this.listener.address();
    if (address === null || typeof address === 'string')
      throw new Error('the proxy does not listen');
    return `redis://127.0.0.1:${address.port}`;
  }

  get connections(): number {
    return this.pairs.size;
  }

  /** Ends every connection, forgotten ones included; new ones are accepted. */
  cut(): void {
    for (const socket of this.dropped) socket.destroy();
    this.dropped.clear();
    for (const { client, server } of this.pairs) {
      client.destroy();
      server.destroy();
    }
  }

  /** Refuses new connections (and cuts the present ones) until {@link accept}. */
  refuse(): void {
    this.refusing = true;
    this.cut();
  }

  accept(): void {
    this.refusing = false;
  }

  /** Half-open: nothing passes any more in either direction, and nobody is told. */
  hold(): void {
    this.held = true;
    for (const { client, server } of this.pairs) {
      client.pause();
      server.pause();
    }
  }

  /** Commands reach the server, and its answers do not come back, on the present connections. */
  holdAnswers(): void {
    for (const { server } of this.pairs) server.pause();
  }

  /**
   * What a router does that forgets its connections: nothing passes on the present ones any more, for ever, and
   * nobody is told; new ones work.
   *
   * @returns the ports by which the server knows them
   */
  drop(): number[] {
    const ports: number[] = [];
    for (const { client, server } of this.pairs) {
      ports.push(server.localPort ?? 0);
      for (const socket of [client, server]) this.dropped.add(socket.pause());
    }
    this.pairs.clear();
    return ports;
  }

  /** Half-open, as {@link hold}, for the connection that was made last; others, and later ones, go on. */
  holdNewest(): void {
    const newest = [...this.pairs].at(-1);
    newest?.client.pause();
    newest?.server.pause();
  }

  /** Half-open, as {@link hold}, for connections that are made from now on; those that there are go on. */
  holdLater(): void {
    this.held = true;
  }

  release(): void {
    this.held = false;
    for (const { client, server } of this.pairs) {
      client.resume();
      server.resume();
    }
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => {
      this.listener.close(() => resolve());
    });
  }

  private join(client: Socket): void {
    if (this.refusing) {
      client.destroy();
      return;
    }
    const server = connect(this.targetPort, '127.0.0.1');
    const pair = { client, server };
    this.pairs.add(pair);
    const end = (): void => {
      this.pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    client.on('data', (data) => server.write(data));
    server.on('data', (data) => client.write(data));
    for (const socket of [client, server]) socket.on('close', end).on('error', end);
    if (this.held) {
      client.pause();
      server.pause();
    }
  }
}
