import type { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { formatDuration } from "@sessiond/core";
import { portPems, redisPems } from "../../../config/tls-config.js";
import { checkPemFiles, PemFault, type PemPaths, subjectOf } from "../../../tls/pem-files.js";
import { readPemFiles } from "../../../tls/read-pem-files.js";
import { type Check, type Finding, fault, type Subject, warning } from "./check.js";

const HOUR_MS = 3_600_000;
/** As the alert SessiondCertificateExpires has it. */
const RENEWAL_MS = 7 * 24 * HOUR_MS;

/** The files of TLS can be used, for a while still, and name the hosts that clients call. */
export const certificatesCheck: Check = async ({ config: { values }, sources }) => {
  const ports = portPems(values);
  const redis = redisPems(values);
  if (ports === undefined && redis === undefined) return undefined;
  const [ofPorts, ofRedis] = await Promise.all([look(ports), look(redis)]);
  const hosts = hostsOf(values, sources.env["SESSIOND_SERVER"]);
  const names = ofPorts.certificate && nameFindings(ofPorts.certificate, hosts);
  return {
    summary: [ofPorts, ofRedis].flatMap(({ text }) => text ?? []).join("; "),
    findings: [...ofPorts.findings, ...(names ?? []), ...ofRedis.findings],
    unknown:
      ports === undefined ? [] : ["by which names clients call, and which authorities they trust"],
  };
};

interface Looked {
  readonly certificate?: X509Certificate | undefined;
  readonly text?: string;
  readonly findings: readonly Finding[];
}

async function look(paths: PemPaths | undefined): Promise<Looked> {
  if (paths === undefined) return { findings: [] };
  try {
    const certificate = checkPemFiles(await readPemFiles(paths), Date.now());
    if (certificate === undefined) return { text: `authorities in ${paths.ca}`, findings: [] };
    const until = certificate.validToDate.toISOString();
    const text = `${subjectOf(certificate)} (${certificate.subjectAltName}) until ${until}`;
    return { certificate, text, findings: expiryFindings(certificate, paths.cert) };
  } catch (error) {
    if (!(error instanceof PemFault)) throw error;
    const problem = `The server cannot use ${paths[error.file]}: ${error.message}.`;
    return { findings: [fault(problem, "Put the right files in place: docs/tls.md says which.")] };
  }
}

function expiryFindings({ validToDate }: X509Certificate, path = ""): readonly Finding[] {
  const restMs = validToDate.getTime() - Date.now();
  if (restMs > RENEWAL_MS) return [];
  const rest = formatDuration(Math.floor(restMs / HOUR_MS) * HOUR_MS);
  return [
    warning(
      `The certificate in ${path} expires in ${rest}.`,
      "Renew it: a running server takes the new files within two seconds.",
    ),
  ];
}

/** The hosts that we know clients to call: one cannot call a server at 0.0.0.0. */
function hostsOf(
  { grpcAddress, httpAddress }: Subject["config"]["values"],
  serverUrl = "",
): ReadonlySet<string> {
  const listening = [grpcAddress?.host, httpAddress?.host];
  const hosts = [...listening, URL.parse(serverUrl)?.hostname.replace(/^\[(.*)\]$/, "$1")];
  return new Set(hosts.filter((host) => host && host !== "0.0.0.0" && host !== "::") as string[]);
}

function nameFindings(
  certificate: X509Certificate,
  hosts: ReadonlySet<string>,
): readonly Finding[] {
  const isNamed = (host: string) =>
    isIP(host) ? certificate.checkIP(host) : certificate.checkHost(host, { subject: "never" });
  return [...hosts]
    .filter((host) => isNamed(host) === undefined)
    .map((host) =>
      warning(
        `The certificate does not name ${host}, so clients that call it by this name refuse it.`,
        `Have ${host} put among its subject alternative names, or call it by one of them.`,
      ),
    );
}
