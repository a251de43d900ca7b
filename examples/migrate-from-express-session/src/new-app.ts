import type { SessionClient } from "@sessiond/client";
import type { SessionData } from "@sessiond/web";
import { requireSession, sessionErrors, sessions } from "@sessiond/web/express";
import cookieParser from "cookie-parser";
import express, { type Express } from "express";
import { moveSessions, type OldSessions } from "./move-sessions.ts";
import { page } from "./page.ts";
import { COOKIE, SECRET, TIMES } from "./settings.ts";
import { userWith } from "./users.ts";

declare module "@sessiond/web" {
  interface Register {
    data: { cups?: number };
  }
}

/** The application as it is afterwards. With `old`, users who logged in before stay logged in. */
export function createNewApp(client: SessionClient<SessionData>, old?: OldSessions): Express {
  const app = express();
  const ours = sessions({ client, cookie: COOKIE });
  app.use(express.urlencoded({ extended: false }), ours);
  if (old !== undefined) {
    // Once more `ours`: it reads the request as it is after the move.
    app.use(cookieParser(SECRET), moveSessions(client, old), ours);
  }

  app.get("/", async (req, res) => {
    const session = await req.sessiond.get();
    res.send(page("sessiond", session && { name: session.displayName, cups: session.data.cups }));
  });
  app.post("/login", async (req, res) => {
    const { name, password } = req.body ?? {};
    await req.sessiond.attemptLogin(name, async () => {
      const user = await userWith(name, password);
      return user && { ...user, ...TIMES };
    });
    res.redirect(303, "/");
  });
  app.post("/cups", requireSession(), async (req, res) => {
    const { data } = await req.sessiond.require();
    await req.sessiond.update({ setData: { cups: (data.cups ?? 0) + 1 } });
    res.redirect(303, "/");
  });
  app.post("/logout", async (req, res) => {
    await req.sessiond.logout();
    res.redirect(303, "/");
  });

  app.use(sessionErrors());
  return app;
}
