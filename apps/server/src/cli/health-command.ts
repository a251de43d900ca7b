import { get as getPlain } from "node:http";
import { get as getTls } from "node:https";
import { text } from "node:stream/consumers";
import { loadProbeConfig, type ProbeConfig } from "../config/config.js";
import { formatAddress } from "../network/address.js";
import type { Command } from "./command/command.js";
import { EXIT_FAILURE, EXIT_OK } from "./command/exit-codes.js";

/** Calls end within two seconds whatever the store does, and so does a question about health. */
const TIMEOUT_MS = 2_000;

interface Answer {
  readonly isReady: boolean;
  readonly report: string;
}

/** `sessiond health`: for supervisors in whose container there is no other program that could ask. */
export const healthCommand: Command = {
  summary: "asks the server on this machine whether it is ready",
  help: () => `Usage: sessiond health [flags of sessiond serve]

Asks GET /readyz of the server that has the same flags and variables, at
SESSIOND_METRICS_ADDRESS, or else at SESSIOND_HTTP_ADDRESS. Prints the answer,
which names the part that is not ready. For the health checks of containers and
for scripts.

Exit codes: 0 when the server is ready, 1 when it is not or does not answer
within two seconds, 2 when this command line or the configuration is at fault.
`,
  run: async ({ args, env, stdout, stderr }) => {
    const probe = await loadProbeConfig({ argv: args, env });
    try {
      const { isReady, report } = await ask(probe);
      stdout.write(report);
      return isReady ? EXIT_OK : EXIT_FAILURE;
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      stderr.write(`sessiond: no answer from ${formatAddress(probe.address)}: ${cause}\n`);
      return EXIT_FAILURE;
    }
  },
};

async function ask({ address: { host, port }, isTls }: ProbeConfig): Promise<Answer> {
  const options = {
    ...{ host, port, path: "/readyz", agent: false },
    signal: AbortSignal.timeout(TIMEOUT_MS),
    // The certificate names the server and not this address. As the kubelet, we send no secret.
    rejectUnauthorized: false,
  };
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const get = isTls ? getTls : getPlain;
  const request = get(options, (response) => {
    const isReady = response.statusCode === 200;
    text(response).then((report) => resolve({ isReady, report }), reject);
  });
  request.once("error", reject);
  return promise;
}
