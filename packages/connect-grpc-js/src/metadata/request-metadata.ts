import { Metadata } from "@grpc/grpc-js";
import { addHeadersToMetadata } from "./metadata.js";

const NO_METADATA = new Metadata();

/** The metadata of frozen headers, which nobody can change. */
const frozenMetadata = new WeakMap<object, Metadata>();

/**
 * Converts the headers of a request. Frozen ones are converted once, however many calls have them:
 * to check each character of an access token costs more than the rest of what this package does
 * for a call. grpc-js copies the metadata of each call.
 *
 * @throws ConnectError (Internal) for a name or value that gRPC cannot carry
 */
export function requestMetadata(header: HeadersInit | undefined): Metadata {
  if (header === undefined) return NO_METADATA;
  if (!Object.isFrozen(header)) return convert(header);
  const known = frozenMetadata.get(header);
  if (known !== undefined) return known;
  const metadata = convert(header);
  frozenMetadata.set(header, metadata);
  return metadata;
}

function convert(header: HeadersInit): Metadata {
  const metadata = new Metadata();
  addHeadersToMetadata(entriesOf(header), metadata, "request");
  return metadata;
}

function entriesOf(header: HeadersInit): Iterable<readonly [string, string]> {
  if (header instanceof Headers) return header;
  // As in `new Headers`, a value may be a list.
  const entries = Symbol.iterator in header ? [...header] : Object.entries(header);
  return entries.map(([name, value]) => [String(name), String(value)]);
}
