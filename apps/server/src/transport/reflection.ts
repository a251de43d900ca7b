import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Server } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { file_google_rpc_error_details } from "@sessiond/proto/google/rpc/error_details";
import { Health } from "@sessiond/proto/health/v1/health";

/**
 * Gives tools such as grpcurl the contract of these services, of health, and of the error details,
 * which no service imports.
 */
export function addReflection(server: Server, services: readonly DescService[]): void {
  const files = new Map<string, Buffer>();
  for (const service of [...services, Health]) collectFiles(service.file, files);
  collectFiles(file_google_rpc_error_details, files);
  // The library reads only the files of a definition.
  const definition = {
    format: "Protocol Buffer 3 EnumDescriptorProto" as const,
    type: {},
    fileDescriptorProtos: [...files.values()],
  };
  new ReflectionService({ sessiond: definition }).addToServer(server);
}

function collectFiles(file: DescFile, files: Map<string, Buffer>): void {
  if (files.has(file.name)) return;
  files.set(file.name, Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)));
  for (const dependency of file.dependencies) collectFiles(dependency, files);
}
