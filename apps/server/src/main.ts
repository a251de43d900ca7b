#!/usr/bin/env node
import { runCli } from "./cli.js";
import { runReseal } from "./reseal.js";
import { runServer } from "./run-server.js";

process.exitCode = await runCli({
  argv: process.argv.slice(2),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  serve: runServer,
  reseal: runReseal,
});
