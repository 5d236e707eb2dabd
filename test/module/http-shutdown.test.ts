import { Agent, get, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Controller,
  Inject,
  Injectable,
  Sse,
  type BeforeApplicationShutdown,
  type INestApplication,
  type MessageEvent,
} from '@nestjs/common';
import { map, type Observable } from 'rxjs';
import { FunctionCircuits, FunctionsMetrics, type FunctionsOptions } from '../../src/index.js';
import { redisUrl, rootModule } from '../harness/apps.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

jest.setTimeout(20_000);

/** What a test does between the end of the drain and the moment in which the server stops listening. */
let beforeServerCloses: () => unknown = () => undefined;

@Injectable()
class LastMoment implements BeforeApplicationShutdown {
  async beforeApplicationShutdown(): Promise<void> {
    await beforeServerCloses();
  }
}

@Controller()
class Streams {
  constructor(
    @Inject(FunctionsMetrics) private readonly metrics: FunctionsMetrics,
    @Inject(FunctionCircuits) private readonly circuits: FunctionCircuits,
  ) {}

  @Sse('load')
  load(): Observable<MessageEvent> {
    return this.metrics.watch().pipe(map((data) => ({ data })));
  }

  @Sse('circuits')
  changes(): Observable<MessageEvent> {
    return this.circuits.changes().pipe(map((data) => ({ data })));
  }
}

/** One connection that is kept alive, as a load balancer, Prometheus or a browser has it. */
class Client {
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(private readonly port: number) {}

  /** Resolves to what the answer says of its connection, when it was read to its end. */
  async ask(path: string, began: () => void = () => undefined): Promise<string> {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const { port, agent } = this;
      get({ host: '127.0.0.1', port, path, agent }, resolve).on('error', reject);
    });
    began();
    for await (const chunk of answer) void chunk;
    return answer.headers.connection ?? '';
  }

  /** Asks again as soon as it was answered, until there is nobody any more; how often it was answered. */
  async askOnAndOn(path: string): Promise<number> {
    for (let answers = 0; ; answers += 1)
      try {
        await this.ask(path);
      } catch {
        return answers;
      }
  }

  close(): void {
    this.agent.destroy();
  }
}

describe('the end of an application that serves HTTP', () => {
  let apps: NestApps;
  let proxy: TcpProxy;
  let client: Client | undefined;

  beforeEach(async () => {
    proxy = await TcpProxy.start(redisUrl());
    apps = new NestApps(proxy.url);
  });
  afterEach(async () => {
    beforeServerCloses = () => undefined;
    client?.close();
    proxy.release();
    await apps.close();
    await proxy.close();
  });

  async function listen(
    options: FunctionsOptions,
  ): Promise<{ app: INestApplication; server: Server; client: Client }> {
    const module = rootModule(apps.options(options), {
      controllers: [Streams],
      providers: [hosting('work', () => 'done'), LastMoment],
    });
    const app = await apps.http(module);
    await app.listen(0, '127.0.0.1');
    const server = app.getHttpServer() as Server;
    client = new Client((server.address() as AddressInfo).port);
    return { app, server, client };
  }

  it.each(['/metrics', '/health'])(
    'is not put off by a connection on which %s is asked for again and again',
    async (path) => {
      const { app, server, client } = await listen({ metrics: true, health: true });
      await client.ask(path);
      let answer: Promise<string> | undefined;
      beforeServerCloses = async () => {
        proxy.holdAnswers();
        const asked = createDeferred();
        server.once('request', () => asked.resolve());
        answer = client.ask(path);
        await asked.promise;
      };
      const closed = app.close();
      await eventually('the server listens no more', () => !server.listening);
      proxy.release();
      await answer;
      expect(await client.askOnAndOn(path)).toBeLessThan(2);
      await closed;
    },
  );

  it.each(['/load', '/circuits'])(
    'ends the stream %s, whose reader connects again at once',
    async (path) => {
      const { app, client } = await listen({});
      const began = createDeferred();
      const read = client.ask(path, began.resolve);
      await began.promise;
      const closed = app.close();
      await read;
      expect(await client.askOnAndOn(path)).toBeLessThan(3);
      await closed;
    },
  );
});
