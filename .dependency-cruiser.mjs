// Which room may import which, checked by `pnpm check` and drawn by `pnpm draw`.

/**
 * The floors of each package, top floor first. A file may import files of its own room and of
 * rooms below, never of rooms above: so nothing imports in a circle, and a reader who goes down
 * never has to come back up. A room is a folder, or files of the package's root.
 */
const FLOORS = {
  "apps/console/src": {
    "main.tsx": "the entry",
    "app.tsx": "who is logged in, and which screen is shown",
    "screens/": "one file a screen, and what only screens have",
    "parts/": "what screens are made of; knows no sessions",
    "workspace.ts": "what all screens of one login share",
    "live/": "sessions as the watch tells them",
    "access/": "the login, and calls with its token",
    "store.ts": "values that change",
  },
  "apps/server/src": {
    "main.ts": "the entry",
    "cli/": "the commands, and the process: arguments, signals, exit codes",
    "daemon/": "opens everything and closes it in reverse",
    "config/": "reads the environment and the files that an operator writes",
    "transport/": "the two ports",
    "interceptors/": "what every call passes, in order",
    "services/": "handlers of three lines, and the conversion of messages",
    "observability/": "the log, the audit, metrics and traces",
    "admission/": "which calls may come in, before anything is read of them",
    "auth/": "whose access token a call has",
    "tls/": "certificates, and their renewal",
    "edge/": "what clients may hold: connections, streams, bytes, time",
    "network/": "addresses and URLs",
  },
  "apps/server/src/cli": {
    "sessiond.ts": "the command line of this process",
    "cli.ts": "dispatch",
    "*.ts": "one file a command, and what it runs",
    "doctor/": "what `sessiond doctor` looks at",
    "sessions/": "an operator's commands on sessions",
    "remote/": "commands that call a server",
    "access/": "where an operator's access token comes from",
    "terminal/": "what people read: tables, questions, texts of others",
    "command/": "what every command is made of",
  },
  "packages/core/src": {
    "index.ts": "the package's door",
    "redis/": "the stores in Redis",
    "sqlite/": "the stores in SQLite",
    "sessions/": "the domain of sessions, and the contract of their store",
    "watch/": "how changes are told",
    "locks/": "the domain of locks, and the contract of their store",
    "rate-limits/": "the domain of rate limits, and the contract of their store",
    "*.ts": "errors, durations and checks, for all of them",
  },
  "packages/core/src/redis": {
    "index.ts": "the subpath's door",
    "open-redis-stores.ts": "all stores over one connection",
    "sessions/": "the store of sessions",
    "locks/": "the store of locks",
    "rate-limits/": "the store of rate limits",
    "connection/": "talks to Redis, and knows nothing of what is stored",
  },
  "packages/connect-grpc-js/src": {
    "index.ts": "the package's door",
    "client/": "calls",
    "server/": "serves",
    "metadata/": "the headers of both, as gRPC has them",
  },
  "packages/client/src": {
    "index.ts": "the package's door",
    "connect.ts": "the door of services on Connect",
    "grpc-js.ts": "the door of services on grpc-js",
    "user-sessions/": "whose session a call of a service has",
    "client.ts": "the SDK's one object",
    "access/": "where the client's own access token comes from",
    "near-cache/": "sessions in memory, kept up to date by a watch",
    "sessions/": "calls about sessions",
    "locks/": "calls about locks",
    "rate-limits/": "calls about rate limits",
    "rpc/": "how a call is made, and made again",
    "*.ts": "options and errors, for all of them",
  },
  "packages/web/src": {
    "express.ts": "Express's door",
    "fastify.ts": "Fastify's door",
    "hono.ts": "Hono's door",
    "react-router.ts": "React Router's door",
    "index.ts": "the package's door",
    "web-sessions.ts": "sessions for the Fetch API",
    "request-session.ts": "the session of one request",
    "options.ts": "what all requests share",
    "login/": "devices, and the limit on attempts",
    "cookie/": "the browser's copy of the token",
    "requests/": "what a request says of its sender, and where the answer's fields go",
    "*.ts": "errors and types, for all of them",
  },
};

/** Tests, and what only tests use, may look into any room. */
const TESTS = "\\.test\\.|/testing/|/e2e/";

/** What `to` may not import because it is above, for each room. */
function upwardRules() {
  return Object.entries(FLOORS).flatMap(([root, rooms]) => {
    const names = Object.keys(rooms);
    return names.map((name, floor) => {
      const above = names.slice(0, floor);
      return {
        name: `${root}/${name}`,
        comment: `${name} (${rooms[name]}) may import only rooms below it, and not ${above.join(", ")}: move what both need to a lower room.`,
        severity: "error",
        from: {
          path: pathOf(root, name),
          pathNot: [TESTS, ...above.map((room) => pathOf(root, room))],
        },
        to: { path: above.length > 0 ? above.map((room) => pathOf(root, room)) : "^$" },
      };
    });
  });
}

function pathOf(root, room) {
  if (room === "*.ts") return `^${root}/[^/]+\\.ts$`;
  return `^${root}/${room.replace(".", "\\.")}${room.endsWith("/") ? "" : "$"}`;
}

export default {
  forbidden: [
    {
      name: "no-circle",
      comment: "Files import each other in a circle: move what both need to a third, below them.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    ...upwardRules(),
    {
      name: "core-is-pure",
      comment: "core imports no protobuf and no RPC library: conversion belongs to the server.",
      severity: "error",
      from: { path: "^packages/core/src" },
      to: { path: "@bufbuild|@connectrpc|@grpc|^packages/(?!core/)|^apps/" },
    },
    {
      name: "client-never-meets-core",
      comment: "The SDK runs in other services: it knows the contract, never the server or core.",
      severity: "error",
      from: { path: "^packages/client/src", pathNot: TESTS },
      to: { path: "^packages/(?!client/|connect-grpc-js/|proto/)|^apps/" },
    },
    {
      name: "web-stands-on-the-sdk",
      comment: "A web application calls sessiond by the SDK alone.",
      severity: "error",
      from: { path: "^packages/web/src", pathNot: TESTS },
      to: { path: "^packages/(?!web/|client/)|^apps/" },
    },
    {
      name: "the-console-is-a-client",
      comment: "The page knows the contract alone. The server has its built files, not its code.",
      severity: "error",
      from: { path: "^apps/console/src" },
      to: { path: "^packages/(?!proto/)|^apps/(?!console/)" },
    },
    {
      name: "nothing-imports-the-server",
      comment: "The server stands on top: what others need of it belongs to a package.",
      severity: "error",
      from: { path: "^packages/" },
      to: { path: "^apps/" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "/dist/|^packages/proto/src" },
    tsPreCompilationDeps: true,
    parser: "tsc",
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import"] },
    reporterOptions: { dot: { theme: { graph: { rankdir: "TB", splines: "true" } } } },
  },
};
