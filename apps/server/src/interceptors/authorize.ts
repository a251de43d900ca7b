import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import { type Caller, callerKey } from "../auth/caller.js";
import { permissionOf } from "../services/permissions.js";

const permissions = new Map<DescMethod, string>();

/** Lets only calls pass whose caller has the permission that the method's option names. */
export const authorize: Interceptor = (next) => async (request) => {
  checkPermission(request.method, request.contextValues.get(callerKey));
  return next(request);
};

/** Throws PERMISSION_DENIED, naming the permission, unless the caller has what the method demands. */
export function checkPermission(method: DescMethod, caller: Caller | undefined): void {
  const permission = cachedPermissionOf(method);
  if (caller?.permissions.has(permission)) return;
  throw new SessiondError(
    "PERMISSION_DENIED",
    `the access token does not grant the permission "${permission}"`,
    { metadata: { permission } },
  );
}

function cachedPermissionOf(method: DescMethod): string {
  let permission = permissions.get(method);
  if (permission === undefined) {
    permission = permissionOf(method);
    permissions.set(method, permission);
  }
  return permission;
}
