import type { IncomingMessage, ServerResponse } from 'node:http';
import type { HttpAdapterHost } from '@nestjs/core';

/** What is needed of a server: of HTTP, whoever made it. */
interface Server {
  prependListener(
    event: 'request',
    listener: (request: IncomingMessage, response: ServerResponse) => void,
  ): unknown;
}

/**
 * Ends every connection of the application's HTTP server with the answer to the next request that comes on it; before
 * the server stops listening.
 *
 * Interleaving that it is for: a server that stops listening closes the connections that wait for a request, and leaves
 * those on which one is being answered. Kept alive, such a connection brings the next request, and the server waits for
 * it again: who scrapes metrics, asks for health or reads a stream again more often than the server's
 * `keepAliveTimeout` (5 s in Node) would keep the server, and with it the process, for as long as he asks. (Fastify
 * does this by itself.)
 */
export function endConnectionsWithAnswers({ httpAdapter }: HttpAdapterHost): void {
  // There is no adapter in an application context, and there may be another transport's server in a test.
  const server = (
    httpAdapter as { getHttpServer?: () => Partial<Server> | undefined } | undefined
  )?.getHttpServer?.();
  server?.prependListener?.('request', (request, response) => {
    // HTTP/2 has no such header.
    if (request.httpVersionMajor !== 1) return;
    response.setHeader('Connection', 'close');
    // A stream of Nest's (`@Sse`) says keep-alive all the same.
    response.once('finish', () => request.socket.end());
  });
}
