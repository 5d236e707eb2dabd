/**
 * The ioredis of the project, for the floors and for the benchmark's own questions. Named by its place: in this
 * folder the bare name is the 5.x that BullMQ and Moleculer take.
 */
export { Redis } from '../../node_modules/ioredis/built/index.js';
