import { Store } from "../store.js";

/** What the address bar names: a screen, and the user that it is about. */
export interface Route {
  readonly screen: string;
  readonly subject: string;
}

export const route = new Store<Route>(readRoute());

addEventListener("hashchange", () => {
  route.value = readRoute();
});

/** The address of a screen. */
export function hrefOf(screen: string, subject = ""): string {
  return `#/${screen}${subject === "" ? "" : `/${encodeURIComponent(subject)}`}`;
}

function readRoute(): Route {
  const [, screen = "", ...subject] = location.hash.split("/");
  try {
    return { screen, subject: decodeURIComponent(subject.join("/")) };
  } catch {
    return { screen, subject: "" };
  }
}
