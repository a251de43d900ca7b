import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Server } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { file_google_rpc_error_details } from "@sessiond/proto/google/rpc/error_details";
import { Health } from "@sessiond/proto/health/v1/health";

/**
 * Lets tools such as grpcurl ask the server for the contract of these services and of health, and
 * for that of the error details, which none of them can refer to.
 */
export function addReflection(server: Server, services: readonly DescService[]): void {
  const files = new Map<string, Buffer>();
  for (const service of [...services, Health]) collectFiles(service.file, files);
  collectFiles(file_google_rpc_error_details, files);
  // The library looks at nothing of a definition but the files it comes from.
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
