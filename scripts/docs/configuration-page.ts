import { authFileJsonSchema, parseAuthConfig } from "../../apps/server/dist/config/auth-config.js";
import { SETTING_LIST, type Setting } from "../../apps/server/dist/config/settings.js";
import { TRACE_VARIABLES } from "../../apps/server/dist/config/traces-config.js";
import { KNOWN_PERMISSIONS, permissionOf } from "../../apps/server/dist/services/permissions.js";
import { SERVICES } from "../../apps/server/dist/services/services.js";
import { anchorOf, blocks, listItem, wrap } from "./markdown.ts";

const INTRODUCTION = `\
<!-- \`pnpm generate\` writes this page from the server's table of settings. -->

# Configuration

A setting is a flag of \`sessiond serve\` or an environment variable; the flag goes first. An empty
variable counts as unset. A server whose configuration is faulty names every fault at once and does
not start. \`sessiond serve --help\` prints the settings, too.

A variable with \`_FILE\` behind its name, such as \`SESSIOND_KEYRING_FILE\`, names a file with the
value: a secret of Docker or Kubernetes. Newlines at the end of the file are not part of the value. To
set both variables is a fault.

\`SESSIOND_KEYRING\` and \`SESSIOND_AUTH\` are required, unless \`--dev\` makes the server a development
server. On SIGHUP, a server reads the files again that these two name: \`SESSIOND_AUTH\` and
\`SESSIOND_KEYRING_FILE\`. If there is any fault in them, it logs the fault and keeps what it has. Calls
under way go on. Files of TLS need no signal: the server reads them again when they change.

Durations are written \`500ms\`, \`30s\`, \`30m\`, \`24h\`, \`7d\` or \`1h30m\`.`;

const TRACES = "Traces";
const AUTH_FILE = "The auth file";
const EXAMPLE = `\
{
  "$schema": "apps/server/auth.schema.json",
  "issuers": [
    { "issuer": "https://id.example.com", "audience": "sessiond", "algorithms": ["RS256"] },
    {
      "issuer": "https://login.example.com",
      "audience": ["sessiond", "api"],
      "algorithms": ["ES256", "EdDSA"],
      "jwks_uri": "https://login.example.com/keys",
      "typ": "at+jwt",
      "clock_tolerance": "30s"
    }
  ],
  "roles": {
    "support": ["sessions:read", "sessions:delete"]
  }
}`;

/** The parts of a JSON Schema that the page shows. */
interface Schema {
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}

/** The page about every setting and the auth file. */
export function configurationPage(): string {
  // An example that the server refuses must not get onto the page.
  parseAuthConfig(EXAMPLE, ".");
  const groups = [...new Set(SETTING_LIST.map(({ group }) => group))];
  return `${blocks(
    INTRODUCTION,
    [
      ...groups.map(groupItem),
      ...[TRACES, AUTH_FILE].map((heading) => listItem([`[${heading}](#${anchorOf(heading)})`])),
    ].join("\n"),
    ...groups.flatMap((group) => [`## ${group}`, ...settingsOf(group).map(settingSection)]),
    `## ${TRACES}`,
    wrap(
      "Traces are set up by OpenTelemetry's own variables, which have no flags. Without an endpoint, " +
        "traces are off, and the other variables have no effect. [tracing.md](tracing.md) says what " +
        "is recorded.",
    ),
    Object.entries(TRACE_VARIABLES)
      .map(([name, meaning]) => listItem([`\`${name}\`: ${meaning}.`]))
      .join("\n"),
    `## ${AUTH_FILE}`,
    wrap(
      "`SESSIOND_AUTH` names a JSON file. It says whose access tokens (JWTs) the server accepts. Editors " +
        "check it and suggest its keys if `$schema` leads to " +
        "[`auth.schema.json`](../apps/server/auth.schema.json).",
    ),
    `\`\`\`json\n${EXAMPLE}\n\`\`\``,
    keyList(authFileJsonSchema() as Schema),
    "URLs must be https, except on loopback addresses.",
    "### Permissions",
    wrap(
      "An access token permits what its `scope` (separated by spaces) and its `permissions` (a list) " +
        "name, and what `roles` in the auth file grants to its `roles` (a list). An issuer's entry can " +
        "name other claims: [identity-providers.md](identity-providers.md) has the auth files for " +
        "Entra, Keycloak, Auth0 and Okta.",
    ),
    KNOWN_PERMISSIONS.map(permissionItem).join("\n"),
  )}\n`;
}

function settingsOf(group: string): readonly Setting[] {
  return SETTING_LIST.filter((setting) => setting.group === group);
}

function groupItem(group: string): string {
  const links = settingsOf(group).map(({ env }) => `[${env}](#${anchorOf(env)})`);
  return listItem([`[${group}](#${anchorOf(group)}): ${links.join(", ")}`]);
}

function settingSection({ env, flag, placeholder, help, details, ...setting }: Setting): string {
  const byDefault = setting.default === undefined ? "" : `, default \`${setting.default}\``;
  return blocks(
    `### ${env}`,
    `\`--${flag}${placeholder === undefined ? "" : ` ${placeholder}`}\`${byDefault}`,
    wrap(`${help.slice(0, 1).toUpperCase()}${help.slice(1)}.`),
    ...(details ?? "").split("\n\n").map((paragraph) => wrap(paragraph)),
  );
}

function keyList({ properties = {}, required = [] }: Schema, depth = 0): string {
  return Object.entries(properties)
    .flatMap(([key, schema]) => {
      const facts = [
        ...(required.includes(key) ? ["required"] : []),
        ...(schema.default === undefined ? [] : [`default \`${schema.default}\``]),
      ];
      const values = schema.items?.enum?.map((value) => `\`${value}\``).join(", ");
      const description = `${schema.description}${values ? ` One or more of ${values}.` : ""}`;
      const title = `**${key}**${facts.length > 0 ? ` (${facts.join(", ")})` : ""}`;
      const keys = schema.items?.properties ? [keyList(schema.items, depth + 1)] : [];
      return [listItem([`${title}: ${description}`], depth), ...keys];
    })
    .join("\n");
}

function permissionItem(permission: string): string {
  const rpcs = SERVICES.flatMap((service) => service.methods)
    .filter((method) => permissionOf(method) === permission)
    .map(({ name }) => `[${name}](api.md#${anchorOf(name)})`);
  return listItem([`\`${permission}\`: ${rpcs.join(", ")}`]);
}
