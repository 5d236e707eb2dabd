/** Injection tokens of what has no class of its own. */
export const BACKEND = Symbol.for('nestjs-functions.Backend');
export const KEYS = Symbol.for('nestjs-functions.Keys');
export const SETTINGS = Symbol.for('nestjs-functions.Settings');
export const CLOCK = Symbol.for('nestjs-functions.Clock');
