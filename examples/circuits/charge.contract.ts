import { defineFunction } from 'nestjs-functions';

/** All who call it share one circuit; short times, so that the example is soon over. */
export const charge = defineFunction<{ cents: number }, { receipt: string }>({
  name: 'charge',
  circuit: { minimumCalls: 20, windowMs: 5_000, openMs: 1_000 },
});
