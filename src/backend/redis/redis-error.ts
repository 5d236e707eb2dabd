import { isFunctionsError } from '../../common/errors.js';

/** Redis quotes the arguments of a command that it does not know; what stands in an address may be a password. */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/,? with args beginning with:[^]*$/, ''],
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s]*@/gi, '$1***@'],
];

/**
 * An error of the client without what must not be told: its own errors carry the command that failed, with all
 * arguments (a call's payload, the password of AUTH), and are printed with it wherever somebody logs a cause.
 * Message, name and code stay; the library's own errors stay themselves.
 */
export function withoutCommand(error: unknown): Error {
  if (isFunctionsError(error)) return error;
  // By its shape: an error of the system may be of another realm's class.
  const given = Object(error) as Partial<NodeJS.ErrnoException>;
  const { message = String(error), name = 'Error', code } = given;
  const told = SECRETS.reduce((text, [secret, instead]) => text.replace(secret, instead), message);
  const bare: NodeJS.ErrnoException = new Error(told === '' ? (code ?? name) : told);
  bare.name = name;
  if (code !== undefined) bare.code = code;
  return bare;
}
