import { errors } from "jose";
import type { KeySet } from "../../../auth/key-set.js";
import type { IssuerProbe } from "../probes/probe-issuers.js";
import { type Check, type Finding, fault } from "./check.js";
import { counted } from "./texts.js";

/** Each issuer publishes a key for an algorithm that is accepted. */
export const issuersCheck: Check = async ({ config: { values, given }, issuers }) => {
  if (values.auth === undefined) {
    return { skipped: given.has("auth") ? "the auth file is at fault" : "no auth file is set" };
  }
  const probed = await issuers;
  const findings = await Promise.all(probed.map(judge));
  return {
    summary: counted(probed.length, "issuer"),
    findings: findings.flat(),
    unknown: ["what audience and permissions the issuers put into tokens"],
  };
};

async function judge({ config, keys }: IssuerProbe): Promise<readonly Finding[]> {
  const { issuer, algorithms } = config;
  if ("error" in keys) {
    return [
      fault(
        `No signing keys of the issuer ${issuer}: ${keys.error}.`,
        "Bring it back, or mend the way to it; docs/operations.md, “An issuer does not answer”, says more.",
      ),
    ];
  }
  const usable = await Promise.all(algorithms.map((alg) => hasKeyFor(keys, alg)));
  if (usable.includes(true)) return [];
  return [
    fault(
      `The issuer ${issuer} publishes no key for ${algorithms.join(", ")}, so all of its tokens are refused.`,
      "Correct its algorithms in the auth file, or have it sign with one of them.",
    ),
  ];
}

/** As for a token that names no key. Several that fit are keys, too. */
async function hasKeyFor(keys: KeySet, alg: string): Promise<boolean> {
  try {
    await keys.find({ alg }, { payload: "", signature: "" });
    return true;
  } catch (error) {
    return error instanceof errors.JWKSMultipleMatchingKeys;
  }
}
