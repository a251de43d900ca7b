import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import protobuf from "protobufjs";

/**
 * The part of OTLP that tests read, with the names and numbers of opentelemetry-proto 1.9.
 * Protobuf skips the rest.
 */
const PROTO = `
syntax = "proto3";
message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeSpans { repeated Span spans = 2; }
message Span {
  bytes trace_id = 1;
  bytes span_id = 2;
  string trace_state = 3;
  bytes parent_span_id = 4;
  string name = 5;
  SpanKind kind = 6;
  repeated KeyValue attributes = 9;
  Status status = 15;
}
enum SpanKind { UNSPECIFIED = 0; INTERNAL = 1; SERVER = 2; CLIENT = 3; }
message Status { StatusCode code = 3; }
enum StatusCode { UNSET = 0; OK = 1; ERROR = 2; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { string string_value = 1; }
`;

const Export = protobuf.parse(PROTO).root.lookupType("ExportTraceServiceRequest");

/** A span, as it arrived. */
export interface ReceivedSpan {
  readonly service: string | undefined;
  readonly traceId: string;
  readonly spanId: string;
  /** "" for the first span of a trace. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  readonly kind: string;
  readonly status: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** An endpoint of OTLP over HTTP, on a real port. Closed when disposed of. */
export interface OtlpReceiver extends AsyncDisposable {
  /** For `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly url: string;
  /** All spans so far. */
  readonly spans: readonly ReceivedSpan[];
  /** All that arrived, for a search for what must not be there. */
  readonly bytes: Buffer;
  /** The headers of each request. */
  readonly headers: readonly IncomingHttpHeaders[];
  /** Answers in place of the receiver, when set. */
  respond: RequestListener | undefined;
}

/** Starts a receiver. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const bodies: Buffer[] = [];
  const headers: IncomingHttpHeaders[] = [];
  const server = createServer(async (request, response) => {
    if (receiver.respond !== undefined) return receiver.respond(request, response);
    const body = await buffer(request);
    bodies.push(body);
    headers.push(request.headers);
    if (request.url === "/v1/traces") spans.push(...spansOf(body));
    response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const receiver: OtlpReceiver = {
    url: `http://127.0.0.1:${port}`,
    spans,
    get bytes() {
      return Buffer.concat(bodies);
    },
    headers,
    respond: undefined,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return receiver;
}

/** As protobufjs gives it, with bytes as base64. */
interface WireSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  readonly kind: string;
  readonly status: { readonly code: string } | null;
  readonly attributes: readonly WireAttribute[];
}

interface WireAttribute {
  readonly key: string;
  readonly value: { readonly stringValue: string };
}

interface WireExport {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly WireAttribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly WireSpan[] }[];
  }[];
}

function spansOf(body: Buffer): ReceivedSpan[] {
  const options = { enums: String, bytes: String, defaults: true };
  const { resourceSpans } = Export.toObject(Export.decode(body), options) as WireExport;
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = attributesOf(resource)["service.name"];
    const spans = scopeSpans.flatMap((scope) => scope.spans);
    return spans.map((span) => ({
      ...span,
      service,
      traceId: hex(span.traceId),
      spanId: hex(span.spanId),
      parentSpanId: hex(span.parentSpanId),
      status: span.status?.code ?? "UNSET",
      attributes: attributesOf(span),
    }));
  });
}

function attributesOf(owner: { readonly attributes: readonly WireAttribute[] }) {
  return Object.fromEntries(owner.attributes.map(({ key, value }) => [key, value.stringValue]));
}

function hex(base64: string): string {
  return Buffer.from(base64, "base64").toString("hex");
}
