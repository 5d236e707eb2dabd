# The example application in a container: the caller by default, a worker with
#   docker run ... node --enable-source-maps --import ./tools/register-ts.mjs examples/http-app/worker.ts
FROM node:20-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY . .
RUN npm run build

FROM node:20-slim
ENV NODE_ENV=production PORT=3000 HOST=0.0.0.0
WORKDIR /app
COPY --from=build /app/package.json /app/.swcrc ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/tools ./tools
COPY --from=build /app/examples ./examples
USER node
EXPOSE 3000
# Exec form: node itself receives SIGTERM, and drains.
CMD ["node", "--enable-source-maps", "--import", "./tools/register-ts.mjs", "examples/http-app/main.ts"]
