import type { DescMethod } from "@bufbuild/protobuf";
import type { ContextValues, Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { type Caller, callerKey } from "../auth/caller.js";
import { claimedFields, unauthenticated } from "../auth/token-refusals.js";
import type { Audit } from "../observability/audit.js";
import { permissionOf } from "../services/permissions.js";

/** What `admit` needs to know of a call. */
export interface Admittance {
  readonly header: Pick<Headers, "get">;
  readonly method: DescMethod;
  readonly contextValues: ContextValues;
}

const BEARER = /^bearer +(\S+) *$/i;

/** A cache: protobuf parses an option each time that it is read. */
const permissions = new Map<DescMethod, string>();

/** Admits a call that came past its port's gate. Both gates admit calls first. */
export function admitCalls(verifier: AccessTokenVerifier, audit: Audit): Interceptor {
  return (next) => async (request) => {
    if (request.contextValues.get(callerKey) === undefined) {
      const admitted = admit(request, verifier, audit);
      // Awaiting the immediate answer about a cached token would cost a turn of the event loop.
      if (admitted !== undefined) await admitted;
    }
    return next(request);
  };
}

/**
 * Checks the call's access token and the permission that the method's option names, and sets the
 * caller in the context. Throws or rejects as `AccessTokenVerifier.verify` does, or with
 * PERMISSION_DENIED that names the permission. A refusal goes to the audit.
 */
export function admit(
  call: Admittance,
  verifier: AccessTokenVerifier,
  audit: Audit,
): void | Promise<void> {
  const refuse = (error: unknown): never => {
    auditRefusal(audit, call, error);
    throw error;
  };
  try {
    const caller = verifier.verify(bearerToken(call.header.get("authorization")));
    if (!(caller instanceof Promise)) return authorize(call, caller);
    return caller.then((verified) => authorize(call, verified)).catch(refuse);
  } catch (error) {
    return refuse(error);
  }
}

function auditRefusal(audit: Audit, call: Admittance, error: unknown): void {
  if (!(error instanceof SessiondError)) return;
  const { method, header, contextValues: values } = call;
  const name = `${method.parent.typeName}/${method.name}`;
  if (error.reason === "UNAUTHENTICATED") {
    const fields = { reason: error.detail, ...claimedFields(error), method: name };
    audit.record("access_token.refused", fields, { values, header });
  }
  if (error.reason === "PERMISSION_DENIED") {
    const fields = { permission: error.metadata["permission"], method: name };
    audit.record("permission.denied", fields, { values, header });
  }
}

function authorize({ method, contextValues }: Admittance, caller: Caller): void {
  contextValues.set(callerKey, caller);
  const permission = permissions.get(method) ?? permissionOf(method);
  permissions.set(method, permission);
  if (caller.permissions.has(permission)) return;
  throw new SessiondError(
    "PERMISSION_DENIED",
    `the access token does not grant the permission "${permission}"`,
    { metadata: { permission } },
  );
}

/**
 * The token of an `authorization` header (RFC 6750, 2.1). Both ports join the values of headers that
 * differ, so they are refused here.
 */
export function bearerToken(header: string | null): string {
  if (header === null) {
    throw unauthenticated(
      "missing",
      "an access token is missing: expected the header authorization: Bearer <token>",
    );
  }
  const token = BEARER.exec(header)?.[1];
  if (token === undefined) {
    throw unauthenticated(
      "malformed",
      "the authorization header is malformed: expected Bearer <token>, in one header",
    );
  }
  return token;
}
