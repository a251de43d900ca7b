// region login
import { type Actions, fail, redirect } from "@sveltejs/kit";
import { userWith } from "../../yours.js";

export const actions: Actions = {
  default: async ({ request, locals }) => {
    const { name, password } = Object.fromEntries(await request.formData());
    const login = await locals.sessiond.attemptLogin(String(name), () => userWith(name, password));
    if (login === undefined) return fail(401);
    redirect(303, "/");
  },
};
// endregion
