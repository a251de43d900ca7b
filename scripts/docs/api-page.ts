import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
  ScalarType,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { type Contract, commentOf, type Described } from "./contract.ts";
import { anchorOf, blocks, listItem, table, wrap } from "./markdown.ts";

const INTRODUCTION = `\
<!-- \`pnpm generate\` writes this page from the comments in proto/sessiond/v1. -->

# API

The package \`sessiond.v1\`, served over gRPC, Connect, gRPC-Web and JSON.

In JSON, every RPC but WatchSessions, which streams, is a POST to its path. Field names are in
lowerCamelCase there. A duration is a text such as \`"900s"\`, a time is a text in RFC 3339, and an
\`int64\` is a text, too.`;

const ERRORS = "Errors";
const MESSAGES = "Messages";
const ENUMS = "Enums";
/** A row of the table in a service's comment: an error's reason, its code, its meaning. */
const ERROR_ROW = /^ +([A-Z_]+) +([A-Z_]+) +(.*)$/;

interface ErrorRow {
  readonly reason: string;
  readonly code: string;
  readonly meaning: string;
}

/** Makes links of the names in a text, except for those that lead to `here`. */
type Link = (text: string, here?: string) => string;

/** The page about every service, RPC, message and enum, the services in the order of `order`. */
export function apiPage(contract: Contract, order: readonly string[]): string {
  const services = [...contract.services].sort(
    (a, b) => order.indexOf(a.name) - order.indexOf(b.name),
  );
  const methods = services.flatMap((service) => service.methods);
  const ofMethods = new Set(methods.flatMap(({ input, output }) => [input, output]));
  const messages = contract.messages.filter((message) => !ofMethods.has(message)).sort(byName);
  const enums = [...contract.enums].sort(byName);
  const errors = services.flatMap((service) => commentOf(service).flatMap(errorRows));
  const reasons = errors.map(({ reason }) => reason);
  const link = linker([
    ...[...services, ...methods, ...messages, ...enums].map(({ name }) => [name, name] as const),
    ...methods.flatMap((method) => [
      [method.input.name, method.name] as const,
      [method.output.name, method.name] as const,
    ]),
    ...reasons.map((reason) => [reason, ERRORS] as const),
  ]);
  const rpc = (method: DescMethod) =>
    rpcSection(method, contract.permissionOf(method), reasons, link);
  return `${blocks(
    INTRODUCTION,
    [
      ...services.map(({ name, methods }) => indexItem(name, methods, link)),
      indexItem(ERRORS, [], link),
      indexItem(MESSAGES, messages, link),
      indexItem(ENUMS, enums, link),
    ].join("\n"),
    ...services.flatMap((service) => [
      `## ${service.name}`,
      text(splitErrors(service).rest, link, service.name),
      ...service.methods.map(rpc),
    ]),
    `## ${ERRORS}`,
    ...services.map((service) => errorSection(splitErrors(service).errors, link)),
    `## ${MESSAGES}`,
    ...messages.map((message) =>
      blocks(
        `### ${message.name}`,
        text(commentOf(message), link, message.name),
        fieldList(message, link, message.name),
      ),
    ),
    `## ${ENUMS}`,
    ...enums.map((desc) => enumSection(desc, link)),
  )}\n`;
}

/** `targets` says for each name in which section it is described. */
function linker(targets: readonly (readonly [name: string, heading: string])[]): Link {
  const headings = new Map(targets);
  return (text, here) =>
    text.replace(/`[^`]*`|\b[A-Z]\w+/g, (word) => {
      const heading = headings.get(word);
      return heading === undefined || heading === here ? word : `[${word}](#${anchorOf(heading)})`;
    });
}

function indexItem(heading: string, entries: readonly { name: string }[], link: Link): string {
  const names = entries.map(({ name }) => link(name)).join(", ");
  return listItem([`[${heading}](#${anchorOf(heading)})${names && `: ${names}`}`]);
}

function rpcSection(
  method: DescMethod,
  permission: string,
  reasons: readonly string[],
  link: Link,
): string {
  const { name, parent, input, output, idempotency } = method;
  const comments = [method, input, ...input.fields].flatMap(commentOf);
  const named = reasons.filter((reason) => comments.some((comment) => comment.includes(reason)));
  const facts = [
    `Path: \`/${parent.typeName}/${name}\``,
    `Permission: \`${permission}\``,
    ...(idempotency === Idempotency.NO_SIDE_EFFECTS ? ["Idempotent, without side effects"] : []),
    ...(idempotency === Idempotency.IDEMPOTENT ? ["Idempotent"] : []),
    ...(named.length > 0 ? [`Errors: ${link(named.join(", "))}`] : []),
  ];
  const isStream = method.methodKind === "server_streaming";
  return blocks(
    `### ${name}`,
    text(commentOf(method), link, name),
    facts.map((fact) => listItem([fact])).join("\n"),
    messageBlock("Request", input, link, name),
    messageBlock(isStream ? "Response, a stream" : "Response", output, link, name),
  );
}

function messageBlock(title: string, message: DescMessage, link: Link, here: string): string {
  const [first = ""] = commentOf(message).map((paragraph) => link(paragraph, here));
  const rest = message.fields.length === 0 ? "Empty." : first;
  return blocks(wrap(`**${title}:** \`${message.name}\`. ${rest}`), fieldList(message, link, here));
}

function fieldList({ members }: DescMessage, link: Link, here: string): string {
  const items = members.flatMap((member) =>
    member.kind === "oneof"
      ? [
          item(`one of (\`${member.name}\`)`, member, link, here),
          ...member.fields.map((field) => item(fieldTitle(field, link), field, link, here, 1)),
        ]
      : [item(fieldTitle(member, link), member, link, here)],
  );
  return items.join("\n");
}

function fieldTitle(field: DescField, link: Link): string {
  const label =
    field.fieldKind === "list" ? "repeated " : field.proto.proto3Optional ? "optional " : "";
  return `**${field.name}** ${label}${typeOf(field, link)}`;
}

function typeOf({ message, enum: enumeration, scalar }: DescField, link: Link): string {
  const desc = message ?? enumeration;
  if (desc === undefined) return `\`${ScalarType[scalar ?? 0]?.toLowerCase()}\``;
  const linked = link(desc.name);
  return linked === desc.name ? `\`${desc.typeName}\`` : linked;
}

function item(title: string, desc: Described, link: Link, here: string, depth = 0): string {
  const [first, ...more] = commentOf(desc).map((paragraph) => link(paragraph, here));
  return listItem([first === undefined ? title : `${title}: ${first}`, ...more], depth);
}

function enumSection(desc: DescEnum, link: Link): string {
  const items = desc.values.map((value) =>
    item(`\`${value.name}\` = ${value.number}`, value, link, desc.name),
  );
  return blocks(`### ${desc.name}`, text(commentOf(desc), link, desc.name), items.join("\n"));
}

/** The table of errors with the paragraph before it and all that follow, and the rest of the comment. */
function splitErrors(service: DescService) {
  const comment = commentOf(service);
  const row = comment.findIndex((paragraph) => errorRows(paragraph).length > 0);
  const start = row === -1 ? comment.length : row - 1;
  return { rest: comment.slice(0, start), errors: comment.slice(start) };
}

function errorSection(comment: readonly string[], link: Link): string {
  const parts = comment.map((paragraph) => {
    const rows = errorRows(paragraph);
    if (rows.length === 0) return text([paragraph], link, ERRORS);
    const cells = rows.map(({ reason, code, meaning }) => [
      `\`${reason}\``,
      `\`${code}\``,
      meaning,
    ]);
    return table([["reason", "code", "meaning"], ...cells]);
  });
  return blocks(...parts);
}

function errorRows(paragraph: string): readonly ErrorRow[] {
  const rows: ErrorRow[] = [];
  for (const line of paragraph.split("\n")) {
    const [, reason, code, meaning] = ERROR_ROW.exec(line) ?? [];
    const last = rows.pop();
    if (reason !== undefined && code !== undefined && meaning !== undefined) {
      rows.push(...(last ? [last] : []), { reason, code, meaning });
    } else if (last !== undefined) {
      rows.push({ ...last, meaning: `${last.meaning} ${line.trim()}` });
    }
  }
  return rows;
}

function text(comment: readonly string[], link: Link, here: string): string {
  return blocks(...comment.map((paragraph) => wrap(link(paragraph, here))));
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}
