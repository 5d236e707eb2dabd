export { createDeferred, type Deferred } from '../../src/common/deferred.js';
