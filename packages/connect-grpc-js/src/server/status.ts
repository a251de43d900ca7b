import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { addHeadersToMetadata } from "../metadata/metadata.js";

const NO_TRAILERS = new Headers();

/**
 * The status for a value that a handler or an interceptor threw.
 *
 * The client sees only a ConnectError. Everything else becomes "internal error": its message may
 * contain secrets, and belongs into the log, which an interceptor writes.
 */
export function statusOf(reason: unknown, trailer: Headers = NO_TRAILERS): StatusObject {
  const error =
    reason instanceof ConnectError ? reason : new ConnectError("internal error", Code.Internal);
  // grpc-js percent-encodes the message and throws on half a surrogate pair, as in a message that
  // quotes a truncated text.
  const details = error.rawMessage.toWellFormed();
  // Connect's codes have gRPC's numbers.
  return { code: Number(error.code), details, metadata: trailersOf(error, details, trailer) };
}

function trailersOf(error: ConnectError, message: string, trailer: Headers): Metadata {
  const metadata = new Metadata();
  try {
    addHeadersToMetadata(trailer, metadata);
    // An error from another server carries the headers of that server, which are not for our client.
    if (!error.isWireError) {
      addHeadersToMetadata(error.metadata, metadata);
    }
    if (error.details.length > 0) {
      metadata.set("grpc-status-details-bin", Buffer.from(statusDetails(error, message)));
    }
  } catch (_error) {
    // The client needs the status more than metadata that gRPC cannot carry.
  }
  return metadata;
}

/** A google.rpc.Status, as https://google.aip.dev/193 describes it. */
function statusDetails(error: ConnectError, message: string): Uint8Array {
  const details = error.details.map((detail) =>
    "desc" in detail
      ? anyPack(detail.desc, create(detail.desc, detail.value))
      : { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value },
  );
  return toBinary(StatusSchema, create(StatusSchema, { code: error.code, message, details }));
}
