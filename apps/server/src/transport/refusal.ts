import { STATUS_CODES } from "node:http";
import { Code } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { withoutSecrets } from "@sessiond/core";
import type { EdgeLimits } from "../edge/edge-limits.js";
import type { Response } from "./http-messages.js";

/** An answer to a request that gets no further: not to a method, or not with a message. */
export interface Refusal {
  /** The HTTP status. */
  readonly status: number;
  readonly code: Code;
  /** Says what was expected. */
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Callers' texts that a refusal repeats. In characters. */
const MAX_QUOTED_LENGTH = 128;

/** The refusal of a request that Connect cannot make a URL of. */
export const NO_HOST = invalid("expected a valid Host header");

/** The refusal of what Node could not read as HTTP/1.1. */
export function unreadable(error: NodeJS.ErrnoException, limits: EdgeLimits): Refusal {
  switch (error.code) {
    case "HPE_HEADER_OVERFLOW":
      return tooLarge(431, `expected headers of at most ${limits.maxHeaderBytes / 1024} KiB`);
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return tooLarge(413, "expected shorter chunk extensions");
    case "ERR_HTTP_REQUEST_TIMEOUT": {
      const message = `expected a request within ${limits.requestTimeoutMs / 1000} s`;
      return { status: 408, code: Code.DeadlineExceeded, message };
    }
    default:
      return invalid("expected a valid HTTP request");
  }
}

/** Answers with a refusal. */
export type Refuse = (response: Response, refusal: Refusal) => void;

/** Answers with a refusal. */
export const refuse: Refuse = (response, refusal) => {
  response.statusCode = refusal.status;
  for (const [name, value] of Object.entries(headersOf(refusal))) response.setHeader(name, value);
  response.end(bodyOf(refusal));
};

/** The same answer for a connection that has no response object. */
export function rawResponse(refusal: Refusal): string {
  const body = bodyOf(refusal);
  const headers = { ...headersOf(refusal), connection: "close", "content-length": body.length };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const { status } = refusal;
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("")}\r\n${body}`;
}

/** The error form of Connect, https://connectrpc.com/docs/protocol#error-end-stream. */
function bodyOf({ code, message }: Refusal): string {
  return JSON.stringify({ code: codeToString(code), message });
}

function headersOf({ headers }: Refusal): Readonly<Record<string, string>> {
  return { ...headers, "content-type": "application/json" };
}

/** A caller's text, cut for a message, without what may be a token in the wrong place. */
export function quoted(of: string): string {
  const text = withoutSecrets(of);
  return text.length > MAX_QUOTED_LENGTH
    ? `${text.slice(0, MAX_QUOTED_LENGTH).toWellFormed()}…`
    : text;
}

function invalid(message: string): Refusal {
  return { status: 400, code: Code.InvalidArgument, message };
}

function tooLarge(status: number, message: string): Refusal {
  return { status, code: Code.ResourceExhausted, message };
}
