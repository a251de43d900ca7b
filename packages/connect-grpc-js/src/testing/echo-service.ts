import { create, toBinary } from "@bufbuild/protobuf";
import { fileDesc, type GenService, serviceDesc } from "@bufbuild/protobuf/codegenv2";
import { base64Encode } from "@bufbuild/protobuf/wire";
import {
  type BytesValueSchema,
  FileDescriptorProtoSchema,
  file_google_protobuf_wrappers,
  type StringValueSchema,
} from "@bufbuild/protobuf/wkt";

interface Method<Kind extends string, Schema> {
  methodKind: Kind;
  input: Schema;
  output: Schema;
}

/** A service with a method of each kind. Built in code, so the tests need no generated stubs. */
export const EchoService: GenService<{
  unary: Method<"unary", typeof StringValueSchema>;
  unaryBytes: Method<"unary", typeof BytesValueSchema>;
  serverStream: Method<"server_streaming", typeof StringValueSchema>;
  clientStream: Method<"client_streaming", typeof StringValueSchema>;
  bidi: Method<"bidi_streaming", typeof StringValueSchema>;
}> = serviceDesc(describeFile(), 0);

function describeFile() {
  const method = (name: string, type: string, client = false, server = false) => ({
    name,
    inputType: `.google.protobuf.${type}`,
    outputType: `.google.protobuf.${type}`,
    clientStreaming: client,
    serverStreaming: server,
  });
  const proto = create(FileDescriptorProtoSchema, {
    name: "echo/v1/echo.proto",
    package: "echo.v1",
    syntax: "proto3",
    dependency: ["google/protobuf/wrappers.proto"],
    service: [
      {
        name: "EchoService",
        method: [
          method("Unary", "StringValue"),
          method("UnaryBytes", "BytesValue"),
          method("ServerStream", "StringValue", false, true),
          method("ClientStream", "StringValue", true, false),
          method("Bidi", "StringValue", true, true),
        ],
      },
    ],
  });
  const bytes = toBinary(FileDescriptorProtoSchema, proto);
  return fileDesc(base64Encode(bytes), [file_google_protobuf_wrappers]);
}
