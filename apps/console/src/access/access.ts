import { Store } from "../store.js";
import { finishLogin, type Login, returnedFromLogin, startLogin } from "./login.js";

/** What a permission lets its holder do, as the proto names it. */
export type Permission = "sessions:read" | "sessions:delete" | "locks:use" | "rate_limits:use";

/** Who uses the page. */
export interface Operator {
  readonly subject: string;
  /** "" for the callers of an issuer without a namespace. */
  readonly namespace: string;
  readonly permissions: ReadonlySet<string>;
  /** Only ever in this memory: a reload forgets it. */
  readonly token: string;
}

/** Whether anybody is logged in. */
export type Access =
  | { readonly kind: "starting" }
  | { readonly kind: "out"; readonly login: Login | undefined; readonly problem?: string }
  | { readonly kind: "in"; readonly operator: Operator }
  | { readonly kind: "expired"; readonly operator: Operator; readonly login: Login | undefined };

/** What the server says before anybody has logged in. */
interface PageConfig {
  readonly isDevelopment: boolean;
  readonly login?: Login;
}

export const access = new Store<Access>({ kind: "starting" });
let config: PageConfig = { isDevelopment: false };

/** Takes the token of a development server's link, or of the issuer that has sent us back here. */
export async function openAccess(): Promise<void> {
  const token = takeTokenFromLink();
  try {
    config = await getJson<PageConfig>("config.json");
    if (token !== undefined && config.isDevelopment) return await enter(token);
    if (config.login && returnedFromLogin()) return await enter(await finishLogin(config.login));
    access.value = { kind: "out", login: config.login };
  } catch (error) {
    access.value = { kind: "out", login: config.login, problem: messageOf(error) };
  }
}

/** Leads to the issuer's page. Answers only if that fails. */
export async function logIn(login: Login): Promise<void> {
  try {
    await startLogin(login);
  } catch (error) {
    access.value = { kind: "out", login, problem: messageOf(error) };
  }
}

/** Forgets the token. */
export function logOut(): void {
  access.value = { kind: "out", login: config.login };
}

/** The server takes this token no longer. What is on the screen stays there. */
export function expire(token: string): void {
  const { value } = access;
  if (value.kind !== "in" || value.operator.token !== token) return;
  access.value = { kind: "expired", operator: value.operator, login: config.login };
}

async function enter(token: string): Promise<void> {
  const headers = { authorization: `Bearer ${token}` };
  const caller = await getJson<{
    readonly subject: string;
    readonly namespace: string;
    readonly permissions: readonly string[];
  }>("caller.json", headers);
  const permissions = new Set(caller.permissions);
  access.value = { kind: "in", operator: { ...caller, permissions, token } };
}

/** The address bar, the history and what is copied from them must not have the token. */
function takeTokenFromLink(): string | undefined {
  const token = /^#token=([\w.-]+)$/.exec(location.hash)?.[1];
  if (token !== undefined) history.replaceState(null, "", location.pathname);
  return token;
}

async function getJson<T>(name: string, headers: Record<string, string> = {}): Promise<T> {
  const response = await fetch(`${import.meta.env.BASE_URL}${name}`, {
    headers,
    cache: "no-store",
  });
  const json = await response.json();
  if (!response.ok) throw new Error(json.message);
  return json;
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : "";
  return cause === "" ? message : `${message} (${cause})`;
}
