import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientProxyFactory,
  MessagePattern,
  Payload as Body,
  Transport,
  type MicroserviceOptions,
} from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import type { Payload, Peer } from './peer.js';

@Controller()
class Echo {
  @MessagePattern('echo')
  echo(@Body() payload: Payload): Payload {
    return payload;
  }
}

@Module({ controllers: [Echo] })
class WorkerModule {}

/** Nest's own Redis transport, as https://docs.nestjs.com/microservices/redis sets it up. Not durable. */
export const nestRedis: Peer = {
  async openWorker({ redisUrl }) {
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(WorkerModule, {
      transport: Transport.REDIS,
      options: address(redisUrl),
      logger: ['warn', 'error'],
    });
    await app.listen();
    return () => app.close();
  },

  async openCaller({ redisUrl }) {
    const client = ClientProxyFactory.create({
      transport: Transport.REDIS,
      options: address(redisUrl),
    });
    await client.connect();
    return {
      call: (payload) => firstValueFrom(client.send<Payload, Payload>('echo', payload)),
      close: async () => {
        await client.close();
      },
    };
  },
};

function address(redisUrl: string): { host: string; port: number } {
  const { hostname, port } = new URL(redisUrl);
  return { host: hostname, port: Number(port) };
}
