import { register } from 'node:module';

/** From here on this process cannot load ioredis, as where it is not installed. */
export function forbidIoredis(): void {
  const hooks = `export function resolve(specifier, context, next) {
  if (/^ioredis(\\/|$)/.test(specifier))
    throw Object.assign(new Error("Cannot find package 'ioredis'"), { code: 'ERR_MODULE_NOT_FOUND' });
  return next(specifier, context);
}`;
  register(`data:text/javascript,${encodeURIComponent(hooks)}`);
}
