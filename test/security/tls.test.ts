import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { EnhancedFunctionRegistry, FunctionRegistry, isFunctionsError } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { CertificateAuthority } from '../harness/certificate.js';
import { rootModule } from '../harness/apps.js';
import { hosting } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';

const PASSWORD = 'correct-horse-battery';
const authority = new CertificateAuthority('the authority of the test');
const stranger = new CertificateAuthority('an authority that nobody trusts');
const folder = mkdtempSync(join(tmpdir(), 'nestjs-functions-tls-'));

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

function file(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}

/** A Redis with a TLS port, or nothing when this redis-server was built without TLS. */
async function startTlsRedis(): Promise<{ redis: StartedRedis; port: number } | undefined> {
  const { cert, key } = authority.server();
  const files = [
    ...['--tls-cert-file', file('server.crt', cert)],
    ...['--tls-key-file', file('server.key', key)],
    ...['--tls-ca-cert-file', file('ca.crt', authority.cert)],
  ];
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const args = ['--tls-port', String(port), '--tls-auth-clients', 'no', ...files];
    try {
      return { redis: await startRedis({ args }), port };
    } catch (error) {
      if (/Bad directive|unknown option|without TLS/i.test(String(error))) return undefined;
      if (attempt >= 5 || !/Failed listening|in use/i.test(String(error))) throw error;
    }
  }
}

const server = await startTlsRedis();
if (server === undefined) console.warn('tls.test.ts is skipped: this redis-server has no TLS');

(server === undefined ? describe.skip : describe)('a Redis behind TLS', () => {
  const { redis, port } = server ?? ({} as NonNullable<typeof server>);
  let apps: NestApps;

  function open(): void {
    apps = new NestApps(redis.url);
  }
  beforeEach(open);
  afterEach(() => apps.close());
  afterAll(async () => {
    await redis.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const options = (ca: string): object => ({ host: '127.0.0.1', port, tls: { ca } });

  async function start(connection: unknown) {
    const providers = [hosting('work', () => 'done')];
    return apps.context(rootModule(apps.options({ connection }), { providers }));
  }

  it('serves calls when its authority is given by the ioredis options', async () => {
    const app = await start(options(authority.cert));
    await expect(app.get(EnhancedFunctionRegistry).call('work')).resolves.toBe('done');
    const list = String(await apps.redis.client('LIST', 'TYPE', 'NORMAL'));
    const own = list.split('\n').filter((line) => line.includes('name=nestjs-functions:'));
    expect(own.length).toBeGreaterThan(0);
    expect(own.filter((line) => !line.includes(`laddr=127.0.0.1:${port} `))).toEqual([]);
  });

  it('serves calls unchecked when the options say so', async () => {
    const app = await start({ host: '127.0.0.1', port, tls: { rejectUnauthorized: false } });
    await expect(app.get(EnhancedFunctionRegistry).call('work')).resolves.toBe('done');
  });

  describe('that cannot be used', () => {
    const elsewhere = { ca: authority.cert, servername: 'redis.elsewhere' };
    const password = PASSWORD;
    const secure = `rediss://***@127.0.0.1:${port}`;
    const refusals: readonly { why: string; connection: unknown; says: RegExp; names: string }[] = [
      {
        why: 'because another authority signed its certificate',
        connection: { ...options(stranger.cert), password },
        says: /unable to verify|self.signed|signature/i,
        names: `rediss://127.0.0.1:${port}`,
      },
      {
        why: 'because the system does not know its authority',
        connection: `rediss://:${PASSWORD}@127.0.0.1:${port}`,
        says: /unable to verify|self.signed|signature/i,
        names: secure,
      },
      {
        why: 'because its certificate is for another host',
        connection: { host: '127.0.0.1', port, tls: elsewhere, password },
        says: /redis\.elsewhere/,
        names: `rediss://127.0.0.1:${port}`,
      },
      {
        why: 'because it is called with redis://',
        connection: `redis://:${PASSWORD}@127.0.0.1:${port}`,
        says: /as rediss:\/\/ where it speaks TLS/,
        names: `redis://***@127.0.0.1:${port}`,
      },
      {
        why: 'because a port without TLS is called with rediss://',
        connection: `rediss://:${PASSWORD}@127.0.0.1:${redis?.port}`,
        says: /got no answer/,
        names: 'rediss://***@127.0.0.1',
      },
    ];
    const told = new Map<string, { readonly error: unknown; readonly ms: number }>();

    beforeAll(async () => {
      const ask = async (why: string, connection: unknown): Promise<void> => {
        const app = await start(connection);
        const since = Date.now();
        const asked = app.get(FunctionRegistry).getAvailableFunctions();
        const error = await asked.catch((reason: unknown) => reason);
        told.set(why, { error, ms: Date.now() - since });
      };
      open();
      await Promise.all(refusals.map(({ why, connection }) => ask(why, connection)));
      await apps.close();
    }, 60_000);

    it.each(refusals)('says so in a typed error, and hangs nobody: $why', (refusal) => {
      const { error, ms } = told.get(refusal.why) ?? { error: undefined, ms: Infinity };
      expect(isFunctionsError(error, 'BACKEND_UNAVAILABLE')).toBe(true);
      expect((error as Error).message).toMatch(refusal.says);
      expect((error as Error).message).toContain(refusal.names);
      expect(ms).toBeLessThan(8_000);
      expect(inspect(error, { depth: 10 })).not.toContain(PASSWORD);
    });
  });
});
