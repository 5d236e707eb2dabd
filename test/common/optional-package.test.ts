import { expect, it } from '@jest/globals';
import { explainMissing } from '../../src/common/optional-package.js';
import { caught } from '../harness/caught.js';

const violation = { path: 'metrics', value: 'on', allowed: 'on with it' };
const explain = (message: string, code = 'ERR_MODULE_NOT_FOUND'): unknown =>
  caught(() =>
    explainMissing('prom-client', violation)(Object.assign(new Error(message), { code })),
  );

it('a package that is not there is named with its cure', () => {
  expect(explain("Cannot find package 'prom-client' imported from /app/a.js")).toMatchObject({
    code: 'INVALID_OPTIONS',
    violations: [violation],
  });
});

it.each([
  ["Cannot find package 'tdigest' imported from /app/node_modules/prom-client/index.js", undefined],
  ["'prom-client' is broken", 'ERR_OTHER'],
])('another failure of its import stays what it is: %s', (message, code) => {
  expect(explain(message, code)).toMatchObject({ message });
});
