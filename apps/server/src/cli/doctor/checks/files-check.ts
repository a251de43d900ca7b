import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { FILE_SUFFIX } from "../../../config/environment.js";
import { SETTINGS } from "../../../config/settings.js";
import { type Check, type Finding, fault, type Subject } from "./check.js";
import { counted } from "./texts.js";

/** The bits of a mode for users who are neither the owner nor of the group. */
const OTHERS = 0o007;
const OTHERS_WRITE = 0o002;

/** Nobody else reads secrets, or changes whom the server trusts. */
export const filesCheck: Check = async (subject) => {
  if (process.platform === "win32") return undefined;
  const found = await Promise.all([
    ...secretFiles(subject).map((path) => look(path, OTHERS, "read")),
    ...trustedFiles(subject).map((path) => look(path, OTHERS_WRITE, "change")),
  ]);
  const looked = found.filter((findings) => findings !== undefined);
  return { summary: counted(looked.length, "file"), findings: looked.flat() };
};

function secretFiles({ config: { values, storeConfig }, sources }: Subject): readonly string[] {
  const { auditLog, tlsKey, redisKey } = values;
  const store = storeConfig?.store;
  const database = store?.kind === "sqlite" && store.path !== ":memory:" ? store.path : undefined;
  const paths = [
    sources.env[SETTINGS.keyring.env + FILE_SUFFIX],
    sources.env[SETTINGS.store.env + FILE_SUFFIX],
    ...[tlsKey, redisKey],
    ...(typeof auditLog === "object" ? [auditLog.file] : []),
    ...(database === undefined ? [] : [database, `${database}-wal`]),
  ];
  return paths.flatMap((path) => path || []);
}

function trustedFiles({ config: { values }, sources }: Subject): readonly string[] {
  const flag = sources.argv.find((argument) => argument.startsWith(`--${SETTINGS.auth.flag}=`));
  const auth = flag?.slice(`--${SETTINGS.auth.flag}=`.length) ?? sources.env[SETTINGS.auth.env];
  const keyFiles = (values.auth?.issuers ?? []).map(({ keys }) =>
    keys.kind === "file" ? keys.path : undefined,
  );
  const { tlsCert, tlsClientCa, redisCa, redisCert } = values;
  const paths = [auth, ...keyFiles, tlsCert, tlsClientCa, redisCa, redisCert];
  return paths.flatMap((path) => path || []);
}

/** Undefined if there is no such file: the settings say so, or the server makes it. */
async function look(
  path: string,
  forbidden: number,
  verb: "read" | "change",
): Promise<readonly Finding[] | undefined> {
  const mode = await stat(path).then(
    (stats) => stats.mode & 0o777,
    () => undefined,
  );
  if (mode === undefined) return undefined;
  if ((mode & forbidden) === 0) return [];
  const octal = mode.toString(8).padStart(4, "0");
  const problem = `Every user of this machine may ${verb} ${resolve(path)} (mode ${octal}).`;
  return [fault(problem, `Run: chmod ${verb === "read" ? "o-rwx" : "o-w"} ${resolve(path)}`)];
}
