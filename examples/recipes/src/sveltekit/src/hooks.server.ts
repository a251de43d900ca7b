// region hooks
import { createWebSessions, type RequestSession, WebError } from "@sessiond/web";
import { redirect } from "@sveltejs/kit";
import type { Handle, HandleServerError } from "@sveltejs/kit/hooks";
import { client } from "./yours.js";

declare global {
  namespace App {
    interface Locals {
      sessiond: RequestSession;
    }
  }
}

const web = createWebSessions({ client });

export const handle: Handle = ({ event, resolve }) =>
  web.handle(event.request, event.getClientAddress(), async (session) => {
    event.locals.sessiond = session;
    if (event.route.id !== "/login" && !(await session.get())) redirect(303, "/login");
    return resolve(event);
  });

export const handleError: HandleServerError = ({ error }) => {
  if (error instanceof WebError) return { status: error.status, message: error.message };
  console.error(error);
  return undefined;
};
// endregion
