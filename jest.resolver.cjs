'use strict';
// NodeNext sources import './x.js' where only './x.ts' exists; leave node_modules alone
module.exports = (request, options) => {
  if (/^\.{1,2}\/.*\.js$/.test(request) && !options.basedir.includes('/node_modules/')) {
    try {
      return options.defaultResolver(request.replace(/\.js$/, '.ts'), options);
    } catch {
      /* a real .js file */
    }
  }
  return options.defaultResolver(request, options);
};
