import { execFileSync } from "node:child_process";
import {
  createFileRegistry,
  type DescEnum,
  type DescEnumValue,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescMethod,
  type DescOneof,
  type DescService,
  fromBinary,
  getOption,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const PACKAGE = "sessiond.v1";
const MAX_DESCRIPTOR_BYTES = 16 * 1024 * 1024;
/** Field numbers in descriptor.proto, which make up the path of a comment. */
const PATH = { message: 4, enum: 5, service: 6, method: 2, field: 2, oneof: 8, value: 2 };

/** The parts of the contract that have comments. */
export type Described =
  | DescService
  | DescMethod
  | DescMessage
  | DescField
  | DescOneof
  | DescEnum
  | DescEnumValue;

/** What stands in proto/sessiond/v1. */
export interface Contract {
  readonly services: readonly DescService[];
  readonly messages: readonly DescMessage[];
  readonly enums: readonly DescEnum[];
  readonly permissionOf: (method: DescMethod) => string;
}

/** Reads the contract with its comments, which stubs do not have. */
export function readContract(): Contract {
  const args = ["build", "--as-file-descriptor-set", "--output", "-"];
  const bytes = execFileSync("buf", args, { maxBuffer: MAX_DESCRIPTOR_BYTES });
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
  const files = [...registry.files].filter((file) => file.proto.package === PACKAGE);
  const permission = registry.getExtension(`${PACKAGE}.permission`);
  if (permission === undefined) throw new Error("expected the contract to have permissions");
  return {
    services: files.flatMap((file) => file.services),
    messages: files.flatMap((file) => file.messages),
    enums: files.flatMap((file) => file.enums),
    permissionOf: (method) => String(getOption(method, permission)),
  };
}

/** The paragraphs of the comment before `desc`, with their line breaks. */
export function commentOf(desc: Described): readonly string[] {
  const path = pathOf(desc).join();
  const locations = fileOf(desc).proto.sourceCodeInfo?.location ?? [];
  const comment = locations.find((location) => location.path.join() === path)?.leadingComments;
  return (comment ?? "")
    .replace(/^ /gm, "")
    .split(/\n\n+/)
    .map((paragraph) => paragraph.trimEnd())
    .filter((paragraph) => paragraph !== "");
}

function fileOf(desc: Described): DescFile {
  return "file" in desc ? desc.file : desc.parent.file;
}

function pathOf(desc: Described): readonly number[] {
  switch (desc.kind) {
    case "service":
      return [PATH.service, desc.file.services.indexOf(desc)];
    case "rpc":
      return [...pathOf(desc.parent), PATH.method, desc.parent.methods.indexOf(desc)];
    case "message":
      return [PATH.message, desc.file.messages.indexOf(desc)];
    case "field":
      return [...pathOf(desc.parent), PATH.field, desc.parent.fields.indexOf(desc)];
    case "oneof":
      return [...pathOf(desc.parent), PATH.oneof, desc.parent.oneofs.indexOf(desc)];
    case "enum":
      return [PATH.enum, desc.file.enums.indexOf(desc)];
    case "enum_value":
      return [...pathOf(desc.parent), PATH.value, desc.parent.values.indexOf(desc)];
  }
}
