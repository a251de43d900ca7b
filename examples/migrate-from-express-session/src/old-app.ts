import type { Login } from "@sessiond/web";
import express, { type Express } from "express";
import session, { type Store } from "express-session";
import { page } from "./page.ts";
import { IDLE_TIMEOUT_MS, SECRET } from "./settings.ts";
import { userWith } from "./users.ts";

declare module "express-session" {
  interface SessionData {
    user: Login;
    cups: number;
  }
}

/** The application as it was before: express-session on a store, such as connect-redis. */
export function createOldApp(store: Store): Express {
  const app = express();
  const cookie = { maxAge: IDLE_TIMEOUT_MS };
  const kept = { rolling: true, resave: false, saveUninitialized: false };
  app.use(express.urlencoded({ extended: false }));
  app.use(session({ store, cookie, secret: SECRET, ...kept }));

  app.get("/", ({ session: { user, cups } }, res) => {
    res.send(page("express-session", user && { name: user.displayName, cups }));
  });
  app.post("/login", async (req, res, next) => {
    const { name = "", password } = req.body ?? {};
    const user = await userWith(name, password);
    if (user === undefined) return res.redirect(303, "/");
    return req.session.regenerate((error) => {
      if (error) return next(error);
      req.session.user = user;
      res.redirect(303, "/");
    });
  });
  app.post("/cups", ({ session }, res) => {
    if (session.user !== undefined) session.cups = (session.cups ?? 0) + 1;
    res.redirect(303, "/");
  });
  app.post("/logout", (req, res, next) => {
    req.session.destroy((error) => (error ? next(error) : res.redirect(303, "/")));
  });
  return app;
}
