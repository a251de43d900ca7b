import { returnPath, type WebSessionsOptions } from "@sessiond/web";
import { requireRole, requireSession, sessionErrors, sessions } from "@sessiond/web/express";
import express, { type Express } from "express";
import { adminPage, basketPage, devicesPage, loginPage, shopPage } from "./pages.ts";
import { TEAS } from "./teas.ts";
import { userWith } from "./users.ts";

declare module "@sessiond/web" {
  interface Register {
    data: { basket?: string[] };
  }
}

const PUBLIC = new URL("../public", import.meta.url).pathname;
/** More would not fit on the page of an example. */
const MAX_LISTED = 100;
const MAX_BASKET = 20;

/** A small shop: login, a basket in the session, my devices, and a list for the admin. */
export function createShop(options: WebSessionsOptions): Express {
  const app = express().disable("x-powered-by");
  app.use(express.static(PUBLIC), express.urlencoded({ extended: false }));
  app.use(sessions({ ...options, loginPath: "/login" }));

  app.get("/", async (req, res) => void res.send(shopPage(await req.sessiond.get())));

  app.get("/login", async (req, res) => {
    res.send(loginPage(await req.sessiond.get(), { returnTo: returnPath(req.query["return_to"]) }));
  });
  app.post("/login", async (req, res) => {
    const { name, password, return_to } = req.body ?? {};
    const login = await req.sessiond.attemptLogin(name, () => userWith(name, password));
    if (login !== undefined) return res.redirect(303, returnPath(return_to));
    const again = { name, returnTo: returnPath(return_to), isWrong: true };
    return res.status(401).send(loginPage(await req.sessiond.get(), again));
  });
  app.post("/logout", async (req, res) => {
    await req.sessiond.logout();
    res.redirect(303, "/");
  });

  app.get("/basket", async (req, res) => {
    res.send(basketPage(await req.sessiond.require()));
  });
  app.post("/basket", requireSession(), async (req, res) => {
    const tea = TEAS.find(({ id }) => id === req.body?.tea);
    const { data } = await req.sessiond.require();
    const basket = [...(data.basket ?? []), ...(tea ? [tea.id] : [])].slice(-MAX_BASKET);
    await req.sessiond.update({ setData: { basket } });
    res.redirect(303, "/basket");
  });

  app.get("/devices", async (req, res) => {
    res.send(devicesPage(await req.sessiond.require(), await req.sessiond.devices()));
  });
  app.post("/devices/:id/sign-out", async (req, res) => {
    await req.sessiond.revokeDevice(req.params.id);
    res.redirect(303, "/devices");
  });
  app.post("/devices/sign-out-elsewhere", async (req, res) => {
    await req.sessiond.logoutEverywhereElse();
    res.redirect(303, "/devices");
  });

  app.get("/admin", requireRole("admin"), async (req, res) => {
    const { sessions } = await options.client.listSessions({ pageSize: MAX_LISTED });
    res.send(adminPage(await req.sessiond.require(), sessions));
  });

  app.use(sessionErrors());
  return app;
}
