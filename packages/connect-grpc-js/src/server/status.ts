import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { addHeadersToMetadata } from "./metadata.js";

/**
 * The status a client gets for what a handler or an interceptor threw.
 *
 * Only a ConnectError speaks to the client. Everything else is "internal
 * error": its message may hold secrets, and belongs into a log that an
 * interceptor writes.
 */
export function statusOf(reason: unknown, trailer: Headers): StatusObject {
  const error =
    reason instanceof ConnectError ? reason : new ConnectError("internal error", Code.Internal);
  // grpc-js percent-encodes the message and throws on half a surrogate pair,
  // which a message that quotes a truncated text may hold.
  const details = error.rawMessage.toWellFormed();
  // Connect's codes have gRPC's numbers.
  return { code: Number(error.code), details, metadata: trailersOf(error, details, trailer) };
}

function trailersOf(error: ConnectError, message: string, trailer: Headers): Metadata {
  const metadata = new Metadata();
  try {
    addHeadersToMetadata(trailer, metadata);
    // An error received from another server carries that server's headers,
    // which are none of this client's business.
    if (!error.isWireError) {
      addHeadersToMetadata(error.metadata, metadata);
    }
    if (error.details.length > 0) {
      metadata.set("grpc-status-details-bin", Buffer.from(statusDetails(error, message)));
    }
  } catch (_error) {
    // What cannot be carried must not cost the client the status itself.
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
