import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';

/**
 * X.509 certificates for tests: node:crypto signs and cannot write them, and a bare machine has no openssl.
 * DER as RFC 5280 has it, for P-256 keys.
 */
export interface Certificate {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
}

/** An authority of its own, which signs the certificates of servers on this machine. */
export class CertificateAuthority {
  private readonly keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  /** Its own certificate, PEM. */
  readonly cert: string;

  constructor(private readonly name: string) {
    const isAuthority = der(0x30, der(0x01, Buffer.from([0xff])));
    this.cert = this.issue(name, this.keys.publicKey, extension([2, 5, 29, 19], isAuthority));
  }

  /** A certificate for `localhost` and 127.0.0.1. */
  server(): Certificate {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const names = der(
      0x30,
      der(0x82, Buffer.from('localhost')),
      der(0x87, Buffer.from([127, 0, 0, 1])),
    );
    return {
      cert: this.issue('localhost', publicKey, extension([2, 5, 29, 17], names)),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
  }

  private issue(subject: string, publicKey: KeyObject, extensions: Buffer): string {
    const algorithm = der(0x30, oid([1, 2, 840, 10045, 4, 3, 2]));
    const day = 86_400_000;
    const content = der(
      0x30,
      der(0xa0, der(0x02, Buffer.from([2]))),
      der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
      algorithm,
      nameOf(this.name),
      der(0x30, time(Date.now() - day), time(Date.now() + day)),
      nameOf(subject),
      publicKey.export({ type: 'spki', format: 'der' }),
      der(0xa3, der(0x30, extensions)),
    );
    const signature = sign('sha256', content, this.keys.privateKey);
    const whole = der(0x30, content, algorithm, der(0x03, Buffer.from([0]), signature));
    const lines = whole.toString('base64').replace(/.{64}/g, '$&\n');
    return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
  }
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const size = body.length;
  const length =
    size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

function oid([first = 0, second = 0, ...rest]: readonly number[]): Buffer {
  const bytes = rest.flatMap((arc) => {
    const groups = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    return groups;
  });
  return der(0x06, Buffer.from([first * 40 + second, ...bytes]));
}

function nameOf(text: string): Buffer {
  return der(0x30, der(0x31, der(0x30, oid([2, 5, 4, 3]), der(0x0c, Buffer.from(text)))));
}

function extension(id: readonly number[], value: Buffer): Buffer {
  return der(0x30, oid(id), der(0x04, value));
}

function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/\.\d+/, '').replace(/[-T:]/g, '');
  return der(0x18, Buffer.from(digits));
}
