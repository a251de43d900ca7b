import { create, createFileRegistry, type DescMethod, setExtension } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_descriptor,
  file_google_protobuf_empty,
  MethodOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import { permission } from "@sessiond/proto/sessiond/v1/permission";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { expect, test } from "vitest";
import { KNOWN_PERMISSIONS, knownPermissions, permissionOf } from "./permissions.js";
import { SERVICES } from "./services.js";

/** The method of a service whose option says `value`, or that has no option. */
function methodWith(value: string | undefined): DescMethod {
  const options = create(MethodOptionsSchema);
  if (value !== undefined) setExtension(options, permission, value);
  const [inputType, outputType] = [".google.protobuf.Empty", ".google.protobuf.Empty"];
  const method = [{ name: "Open", inputType, outputType, options }];
  const file = create(FileDescriptorProtoSchema, {
    ...{ name: "test.proto", package: "test", syntax: "proto3" },
    dependency: ["google/protobuf/empty.proto"],
    service: [{ name: "Door", method }],
  });
  const files = [file_google_protobuf_descriptor.proto, file_google_protobuf_empty.proto, file];
  const set = create(FileDescriptorSetSchema, { file: files });
  const [open] = createFileRegistry(set).getService("test.Door")?.methods ?? [];
  if (open === undefined) throw new Error("the test's service has no method");
  return open;
}

test("a method's permission is what its option in the proto says", () => {
  expect(permissionOf(SessionService.method.createSession)).toBe("sessions:create");
  expect(permissionOf(SessionService.method.revokeUserSessions)).toBe("sessions:delete");
  expect(permissionOf(methodWith("doors:open"))).toBe("doors:open");
});

test("a method without a permission is an error that names it", () => {
  expect(() => permissionOf(methodWith(undefined))).toThrow(
    "test.Door.Open declares no permission",
  );
});

test.each(["", "doors", "doors:", ":open", "doors:open now", "Doors:open"])(
  'a method with the permission "%s" is an error',
  (value) => {
    expect(() => permissionOf(methodWith(value))).toThrow("expected resource:action");
  },
);

test("the known permissions are those of all methods, each once", () => {
  expect(KNOWN_PERMISSIONS).toEqual([
    "sessions:create",
    "sessions:read",
    "sessions:update",
    "sessions:delete",
    "locks:use",
    "rate_limits:use",
  ]);
  expect(knownPermissions([methodWith("doors:open").parent, ...SERVICES])).toEqual([
    "doors:open",
    ...KNOWN_PERMISSIONS,
  ]);
});
