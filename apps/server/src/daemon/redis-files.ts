import type { RedisTls } from "@sessiond/core/redis";
import type { Logger } from "pino";
import type { PemFiles, PemPaths } from "../tls/pem-files.js";
import { RenewedFiles } from "../tls/renewed-files.js";

/** What TLS to Redis uses, as the files have it at any time. */
interface RedisFiles {
  readonly tls: RedisTls;
  reload(): Promise<void>;
  close(): void;
}

/** Reads the files of TLS to Redis. New connections use what the files have become. */
export async function openRedisFiles(
  paths: PemPaths | undefined,
  logger: Logger,
): Promise<RedisFiles> {
  if (paths === undefined) return { tls: {}, reload: async () => {}, close: () => {} };
  const tls: RedisTls = {};
  const take = (files: PemFiles) => Object.assign(tls, files);
  const files = await RenewedFiles.open(paths, {
    onRenewed: ({ files }) => {
      take(files);
      logger.info({ files: paths }, "the TLS files of Redis have been renewed");
    },
    onRefused: (fault) => {
      logger.error(
        { error: fault.message, file: paths[fault.file] },
        "the TLS files of Redis have changed and are refused, so the old ones stay in use",
      );
    },
  });
  take(files.inUse.files);
  return { tls, reload: () => files.reload(), close: () => files.close() };
}
