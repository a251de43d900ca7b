import type { ServerLoad } from "@sveltejs/kit";

export const load: ServerLoad = async ({ locals }) => {
  const { userId } = await locals.sessiond.require();
  return { userId };
};
