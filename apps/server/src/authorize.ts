import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import { callerKey } from "./authenticate.js";
import { permissionOf } from "./permissions.js";

const permissions = new Map<DescMethod, string>();

/** Lets only calls pass whose caller has the permission that the method's option names. */
export const authorize: Interceptor = (next) => async (request) => {
  const permission = cachedPermissionOf(request.method);
  if (!request.contextValues.get(callerKey)?.permissions.has(permission)) {
    throw new SessiondError(
      "PERMISSION_DENIED",
      `the access token does not grant the permission "${permission}"`,
      { metadata: { permission } },
    );
  }
  return next(request);
};

function cachedPermissionOf(method: DescMethod): string {
  let permission = permissions.get(method);
  if (permission === undefined) {
    permission = permissionOf(method);
    permissions.set(method, permission);
  }
  return permission;
}
