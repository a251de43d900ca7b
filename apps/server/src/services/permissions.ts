import { type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { permission } from "@sessiond/proto/sessiond/v1/permission";
import { SERVICES } from "./services.js";

const SHAPE = /^[a-z_]+:[a-z_]+$/;

/**
 * The permission that a method's option in the proto demands. Throws an Error if the option is
 * missing or malformed. `KNOWN_PERMISSIONS` asks for every method's permission at start, so no
 * server serves a method that is open by omission.
 */
export function permissionOf(method: DescMethod): string {
  const name = `${method.parent.typeName}.${method.name}`;
  if (!hasOption(method, permission)) {
    throw new Error(`${name} declares no permission: set (sessiond.v1.permission) in the proto`);
  }
  const value = getOption(method, permission);
  if (!SHAPE.test(value)) {
    throw new Error(`${name} declares the permission "${value}": expected resource:action`);
  }
  return value;
}

/** The permissions that the methods of these services demand, in the order of the methods. */
export function knownPermissions(services: readonly DescService[]): readonly string[] {
  return [...new Set(services.flatMap((service) => service.methods.map(permissionOf)))];
}

/** Every permission that a token can carry and a role can grant. */
export const KNOWN_PERMISSIONS: readonly string[] = knownPermissions(SERVICES);
