import { expect, it } from '@jest/globals';
import { RedisConnection } from '../../src/backend/redis/redis-connection.js';
import { redisUrl } from '../harness/apps.js';

it('a second error of one socket, as TLS may have it, ends no process', async () => {
  const url = redisUrl();
  const connection = new RedisConnection(url, 'test', url);
  try {
    await connection.whenReady();
    const { stream } = connection.client;
    expect(() => {
      stream.emit('error', new Error('the certificate was refused'));
      stream.emit('error', new Error('alert number 50'));
    }).not.toThrow();
  } finally {
    connection.close();
  }
});
