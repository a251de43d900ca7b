import { formatAddress, isLoopback } from "../network/address.js";
import { checkPemFiles, PemFault, type PemPaths } from "../tls/pem-files.js";
import type { PortPems } from "../tls/port-certificate.js";
import { readPemFiles } from "../tls/read-pem-files.js";
import { keyOf, type ReadSettings } from "./read-settings.js";
import { SETTINGS, type SettingName, type Values } from "./settings.js";

/** The settings that name the files of one certificate. */
type PemSettings = { readonly [File in keyof PemPaths]-?: SettingName };

const PORTS = { cert: "tlsCert", key: "tlsKey", ca: "tlsClientCa" } as const satisfies PemSettings;
const REDIS = { cert: "redisCert", key: "redisKey", ca: "redisCa" } as const satisfies PemSettings;

/** The files of the ports, or undefined for plaintext. */
export function portPems(values: Partial<Values>): PortPems | undefined {
  const { tlsCert: cert, tlsKey: key, tlsClientCa: ca } = values;
  if (cert === undefined || key === undefined) return undefined;
  return { cert, key, ...(ca !== undefined && { ca }) };
}

/** The files of TLS to Redis, or undefined if there are none. */
export function redisPems(values: Partial<Values>): PemPaths | undefined {
  const paths = pathsOf(values, REDIS);
  return Object.keys(paths).length === 0 ? undefined : paths;
}

/** Every fault of TLS on the ports. The files are looked at only if all else is right. */
export async function portTlsFaults(settings: ReadSettings): Promise<readonly string[]> {
  const faults = portTlsSettingFaults(settings);
  return faults.length > 0 ? faults : fileFaults(settings.values, PORTS);
}

/** The faults of the ports' TLS settings. Does not look at the contents of the files. */
export function portTlsSettingFaults(settings: ReadSettings): readonly string[] {
  const { given } = settings;
  const faults = [...pairFaults(given, PORTS), ...plaintextFaults(settings)];
  if (given.has("tlsClientCa") && !given.has("tlsCert") && !given.has("tlsKey")) {
    const expected = `expected ${keyOf(SETTINGS.tlsCert)} as well, or no client is asked`;
    faults.push(`${keyOf(SETTINGS.tlsClientCa)}: ${expected}`);
  }
  return faults;
}

/** Every fault of TLS to Redis. The files are looked at only if all else is right. */
export async function redisTlsFaults(settings: ReadSettings): Promise<readonly string[]> {
  const faults = redisTlsSettingFaults(settings);
  return faults.length > 0 ? faults : fileFaults(settings.values, REDIS);
}

/** The faults of TLS to Redis without those of the files' contents. */
export function redisTlsSettingFaults({ values, given }: ReadSettings): readonly string[] {
  const names = Object.values(REDIS).filter((name) => given.has(name));
  const { store } = values;
  const isTls = store !== undefined && store.kind !== "sqlite" && store.tls;
  const hasFault = given.has("store") && store === undefined;
  if (!isTls && !hasFault) {
    const expected = `expected a rediss://… store in ${keyOf(SETTINGS.store)} as well`;
    return names.map((name) => `${keyOf(SETTINGS[name])}: ${expected}`);
  }
  return pairFaults(given, REDIS);
}

function pairFaults(given: ReadonlySet<SettingName>, { cert, key }: PemSettings): string[] {
  const pairs = [
    [cert, key],
    [key, cert],
  ] as const;
  return pairs
    .filter(([name, other]) => !given.has(name) && given.has(other))
    .map(([name, other]) => `${keyOf(SETTINGS[name])}: required with ${keyOf(SETTINGS[other])}`);
}

async function fileFaults(values: Partial<Values>, names: PemSettings): Promise<string[]> {
  try {
    checkPemFiles(await readPemFiles(pathsOf(values, names)), Date.now());
    return [];
  } catch (error) {
    if (!(error instanceof PemFault)) throw error;
    const name = names[error.file];
    return [`${keyOf(SETTINGS[name])}: ${values[name]}: ${error.message}`];
  }
}

function pathsOf(values: Partial<Values>, names: PemSettings): PemPaths {
  const paths = Object.entries(names).map(([file, name]) => [file, values[name]]);
  return Object.fromEntries(paths.filter(([, path]) => path !== undefined));
}

const ADDRESSES = ["grpcAddress", "httpAddress", "metricsAddress"] as const;

/** Off loopback, plaintext must be wanted. A development server may not listen there at all. */
function plaintextFaults({ values, given }: ReadSettings): readonly string[] {
  if (values.dev || values.allowPlaintext || given.has("tlsCert") || given.has("tlsKey")) return [];
  const open = ADDRESSES.filter((name) => {
    const address = values[name];
    return address !== undefined && !isLoopback(address.host);
  });
  return open.map((name) => {
    const address = values[name];
    const where = address && formatAddress(address);
    return (
      `${keyOf(SETTINGS[name])}: others can reach ${where}, and without TLS they can read tokens and ` +
      `sessions on the way; set ${SETTINGS.tlsCert.env} and ${SETTINGS.tlsKey.env}, or ` +
      `${SETTINGS.allowPlaintext.env}=true if a proxy or a mesh in front encrypts`
    );
  });
}
