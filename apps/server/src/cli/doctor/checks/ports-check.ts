import type { X509Certificate } from "node:crypto";
import { keyOf } from "../../../config/read-settings.js";
import { SETTINGS } from "../../../config/settings.js";
import { portPems } from "../../../config/tls-config.js";
import { formatAddress } from "../../../network/address.js";
import { checkPemFiles } from "../../../tls/pem-files.js";
import { readPemFiles } from "../../../tls/read-pem-files.js";
import { type PortHolder, probePort } from "../probes/probe-port.js";
import { type Check, type Finding, fault, type Subject, warning } from "./check.js";

const PORTS = [
  ["grpcAddress", "grpc"],
  ["httpAddress", "http"],
  ["metricsAddress", "http"],
] as const;

/** Each port is free, or a server of sessiond answers there. */
export const portsCheck: Check = async ({ config }) => {
  const certificate = await certificateOf(config);
  const looked = await Promise.all(
    PORTS.map(async ([name, protocol]) => {
      const address = config.values[name];
      if (address === undefined) return [];
      const held = await probePort({ address, protocol, certificate });
      const where = formatAddress(address);
      return [{ text: `${where} ${describe(held)}`, finding: judge(held, where, name) }];
    }),
  );
  return {
    summary: looked
      .flat()
      .map(({ text }) => text)
      .join(", "),
    findings: looked.flat().flatMap(({ finding }) => finding ?? []),
  };
};

/** What the server presents. Undefined if its files are at fault, as another check says. */
async function certificateOf({ values }: Subject["config"]): Promise<X509Certificate | undefined> {
  const pems = portPems(values);
  if (pems === undefined) return undefined;
  try {
    return checkPemFiles(await readPemFiles(pems), Date.now());
  } catch {
    return undefined;
  }
}

function describe(held: PortHolder): string {
  switch (held.holder) {
    case "nobody":
      return "is free";
    case "sessiond":
      return "is sessiond's";
    default:
      return "cannot be had";
  }
}

function judge(
  held: PortHolder,
  where: string,
  name: (typeof PORTS)[number][0],
): Finding | undefined {
  const another = `choose another address in ${keyOf(SETTINGS[name])}.`;
  switch (held.holder) {
    case "nobody":
      return undefined;
    case "sessiond":
      if (held.isReady !== false) return undefined;
      return warning(
        `The server at ${where} runs, and is not ready.`,
        "Ask its /readyz which part is not, and since when.",
      );
    case "other":
      return fault(
        `Another program has ${where}, and does not answer as sessiond.`,
        `Find it (ss -ltnp) and stop it, or ${another}`,
      );
    case "refused":
      return fault(
        `The server cannot listen on ${where} (${held.code}).`,
        `Let it have an address of this machine and a port that its user may use, or ${another}`,
      );
  }
}
