import { X509Certificate } from "node:crypto";
import { keyOf } from "../../../config/read-settings.js";
import { SETTINGS } from "../../../config/settings.js";
import { portPems } from "../../../config/tls-config.js";
import { formatAddress } from "../../../network/address.js";
import type { PemPaths } from "../../../tls/pem-files.js";
import { readPemFiles } from "../../../tls/read-pem-files.js";
import { type PortHolder, probePort } from "../probes/probe-port.js";
import { type Check, type Finding, fault, warning } from "./check.js";

const PORTS = [
  ["grpcAddress", "grpc"],
  ["httpAddress", "http"],
  ["metricsAddress", "http"],
] as const;

/** Each port is free, or a server of sessiond answers there. */
export const portsCheck: Check = async ({ config }) => {
  const pems = portPems(config.values);
  const certificate = pems && (await certificateIn(pems));
  const tls = pems !== undefined;
  const looked = await Promise.all(
    PORTS.map(async ([name, protocol]) => {
      const address = config.values[name];
      if (address === undefined) return [];
      const held = await probePort({ address, protocol, tls, certificate });
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

/** Undefined if the file is damaged, as another check says. It may have expired. */
async function certificateIn(pems: PemPaths): Promise<X509Certificate | undefined> {
  try {
    const { cert = "" } = await readPemFiles(pems);
    return new X509Certificate(cert);
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
    case "unknown":
      return "is taken";
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
    case "unknown":
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
