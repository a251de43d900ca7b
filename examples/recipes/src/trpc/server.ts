// region server
import { WebError } from "@sessiond/web";
import { sessionErrors, sessions } from "@sessiond/web/express";
import { initTRPC, TRPCError } from "@trpc/server";
import * as trpc from "@trpc/server/adapters/express";
import express from "express";
import { client, credentials, userWith } from "../yours.js";
import { codeOf } from "./code-of.js";

const createContext = ({ req }: trpc.CreateExpressContextOptions) => ({ sessiond: req.sessiond });
const t = initTRPC.context<typeof createContext>().create();

const publicProcedure = t.procedure.use(async ({ next }) => {
  const result = await next();
  if (result.ok || !(result.error.cause instanceof WebError)) return result;
  throw new TRPCError({ code: codeOf(result.error.cause.status), cause: result.error.cause });
});
const userProcedure = publicProcedure.use(async ({ ctx, next }) =>
  next({ ctx: { session: await ctx.sessiond.require() } }),
);

const router = t.router({
  greet: userProcedure.query(({ ctx }) => `hello, ${ctx.session.userId}`),
  logIn: publicProcedure.input(credentials).mutation(async ({ ctx, input }) => {
    const { name, password } = input;
    const login = await ctx.sessiond.attemptLogin(name, () => userWith(name, password));
    return login !== undefined;
  }),
});

const app = express();
app.use(sessions({ client }));
app.use("/trpc", trpc.createExpressMiddleware({ router, createContext }));
app.use(sessionErrors());
app.listen(process.env["PORT"] ?? 3000);
// endregion
