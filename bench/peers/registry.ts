import type { Peer } from './peer.js';

/** All that are measured, ourselves first. */
export const PEER_NAMES = [
  'nestjs-functions',
  'nest-redis',
  'bullmq',
  'moleculer',
  'nats',
  'floor-pubsub',
  'floor-streams',
] as const;

export type PeerName = (typeof PEER_NAMES)[number];

/** For people. */
export const PEER_TITLES: Readonly<Record<PeerName, string>> = {
  'nestjs-functions': 'nestjs-functions',
  'nest-redis': 'Nest Transport.REDIS',
  bullmq: 'BullMQ',
  moleculer: 'Moleculer 0.14, Redis',
  nats: 'NATS core request',
  'floor-pubsub': 'floor: bare pub/sub',
  'floor-streams': 'floor: bare Streams',
};

/** Loads a peer, and only that one: a process holds nothing that it does not measure. */
export async function loadPeer(name: PeerName): Promise<Peer> {
  switch (name) {
    case 'nestjs-functions':
      return (await import('./nestjs-functions.js')).nestjsFunctions;
    case 'nest-redis':
      return (await import('./nest-redis.js')).nestRedis;
    case 'bullmq':
      return (await import('./bullmq.js')).bullmq;
    case 'moleculer':
      return (await import('./moleculer.js')).moleculer;
    case 'nats':
      return (await import('./nats.js')).nats;
    case 'floor-pubsub':
      return (await import('./floor-pubsub.js')).floorPubsub;
    case 'floor-streams':
      return (await import('./floor-streams.js')).floorStreams;
  }
}
