import type { Session } from "@sessiond/client";
import type { WebSessionsOptions } from "@sessiond/web";
import { requireRole, requireSession, sessions } from "@sessiond/web/hono";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { validator } from "hono/validator";
import { userWith } from "./users.ts";

const MAX_BODY_BYTES = 4096;
/** More belongs on a second page. */
const MAX_LISTED = 100;

/** A JSON API. Browsers have their session in a cookie, programs send `Authorization: Bearer`. */
export function createApi(options: WebSessionsOptions): Hono {
  const api = new Hono();
  api.use(bodyLimit({ maxSize: MAX_BODY_BYTES }), sessions(options));

  api.post("/login", credentials, async (c) => {
    const { name, password } = c.req.valid("json");
    const login = await c.var.sessiond.attemptLogin(name, () => userWith(name, password));
    return login === undefined ? c.json(WRONG, 401) : c.json(userOf(login.session));
  });

  // Only programs get to see the token: a script in a page cannot read the cookie, and need not.
  api.post("/tokens", credentials, async (c) => {
    const { name, password } = c.req.valid("json");
    const login = await c.var.sessiond.attemptLogin(name, () => userWith(name, password));
    if (login === undefined) return c.json(WRONG, 401);
    return c.json({ token: login.token, expireTime: login.session.absoluteExpireTime }, 201);
  });

  api.get("/me", async (c) => c.json(userOf(await c.var.sessiond.require())));

  api.get("/devices", async (c) => c.json({ devices: await c.var.sessiond.devices() }));
  api.delete("/devices/:id", async (c) => {
    const hasEnded = await c.var.sessiond.revokeDevice(c.req.param("id"));
    return hasEnded ? c.body(null, 204) : c.json({ reason: "NO_SUCH_DEVICE" }, 404);
  });

  api.post("/logout", requireSession(), async (c) => {
    await c.var.sessiond.logout();
    return c.body(null, 204);
  });

  api.get("/admin/sessions", requireRole("admin"), async (c) => {
    const { sessions } = await options.client.listSessions({ pageSize: MAX_LISTED });
    return c.json({ sessions: sessions.map(({ id, userId }) => ({ id, userId })) });
  });
  return api;
}

const WRONG = { reason: "WRONG_NAME_OR_PASSWORD" };

const credentials = validator("json", (body, c) => {
  const { name, password } = body ?? {};
  if (typeof name === "string" && typeof password === "string") return { name, password };
  return c.json({ reason: "INVALID_ARGUMENT", detail: "name, password: expected texts" }, 400);
});

function userOf({ userId, displayName, roles }: Session) {
  return { userId, displayName, roles };
}
