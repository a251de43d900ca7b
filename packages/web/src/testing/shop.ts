import express from "express";
import { requireFresh, requireRole, requireSession, sessionErrors, sessions } from "../express.js";
import type { WebSessionsOptions } from "../options.js";
import type { Login } from "../request-session.js";
import { listen } from "./listen.js";

/** Everybody's password is their name backwards. */
function userWith(name: string, password: string): Login | undefined {
  if ([...name].reverse().join("") !== password) return undefined;
  return { userId: name, displayName: name, roles: name.startsWith("admin") ? ["admin"] : [] };
}

/** The right answer to a login form. */
export function form(name: string): { name: string; password: string } {
  return { name, password: [...name].reverse().join("") };
}

/** An application of Express that has everything this package gives. Returns its origin. */
export function startShop(options: WebSessionsOptions): Promise<string> {
  const app = express().set("env", "test");
  app.use((_req, res, next) => {
    // For tests of what happens at the same time.
    const writeHead = res.writeHead;
    res.writeHead = (...args: unknown[]) => {
      res.setHeader("x-answered-at", performance.now());
      return writeHead.apply(res, args as Parameters<typeof writeHead>);
    };
    next();
  });
  app.use(express.urlencoded(), sessions({ warn() {}, ...options }));
  app.post("/login", async (req, res) => {
    const { name, password } = req.body;
    const created = await req.sessiond.attemptLogin(name, () => {
      res.setHeader("x-checked-at", performance.now());
      return userWith(name, password);
    });
    res.status(created ? 200 : 401).json({ id: created?.session.id });
  });
  app.post("/token", async (req, res) => {
    const { token } = await req.sessiond.login({ userId: req.body.name });
    res.json({ token });
  });
  app.get("/me", async (req, res) => {
    const session = await req.sessiond.get();
    res.json(session ? { user: session.userId, client: session.client } : {});
  });
  app.post("/note", (_req, res) => void res.json({}));
  app.get("/mine", requireSession(), (_req, res) => void res.json({}));
  app.get("/admin", requireRole("admin", "owner"), (_req, res) => void res.json({}));
  app.get("/fresh/:ms", (req, res, next) => requireFresh(Number(req.params.ms))(req, res, next));
  app.get("/fresh/:ms", (_req, res) => void res.json({}));
  app.post("/rotate", async (req, res) => {
    const rotated = await req.sessiond.rotate({ graceMs: Number(req.body.graceMs ?? 30_000) });
    res.json({ rotated: rotated !== undefined });
  });
  app.post("/reauthenticated", async (req, res) => {
    await req.sessiond.reauthenticated();
    res.json({});
  });
  app.post("/logout", async (req, res) => {
    await req.sessiond.logout();
    res.json({});
  });
  app.get("/devices", async (req, res) => void res.json(await req.sessiond.devices()));
  app.post("/devices/:id/revoke", async (req, res) => {
    res.json({ revoked: await req.sessiond.revokeDevice(req.params.id) });
  });
  app.post("/elsewhere", async (req, res) => {
    res.json({ ended: await req.sessiond.logoutEverywhereElse() });
  });
  app.use(sessionErrors());
  return listen(app);
}
