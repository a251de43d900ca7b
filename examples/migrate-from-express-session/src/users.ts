import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import type { Login } from "@sessiond/web";

const derive = promisify<string, Buffer, number, Buffer>(scrypt);
const KEY_BYTES = 32;

interface User {
  readonly login: Login;
  readonly salt: Buffer;
  readonly key: Promise<Buffer>;
}

/** An application has a table of these. */
const USERS: ReadonlyMap<string, User> = new Map([
  ["ann", user({ userId: "ann", displayName: "Ann" }, "green tea")],
  ["ada", user({ userId: "ada", displayName: "Ada", roles: ["admin"] }, "black tea")],
]);
const NOBODY = user({ userId: "nobody" }, randomBytes(KEY_BYTES).toString("hex"));

/** The user with this name and password. Takes as long for a name that nobody has. */
export async function userWith(name: string, password: unknown): Promise<Login | undefined> {
  const { login, salt, key } = USERS.get(name.trim().toLowerCase()) ?? NOBODY;
  const given = await derive(String(password), salt, KEY_BYTES);
  return timingSafeEqual(given, await key) ? login : undefined;
}

function user(login: Login, password: string): User {
  const salt = randomBytes(16);
  return { login, salt, key: derive(password, salt, KEY_BYTES) };
}
