import { render } from "preact";
import { openAccess } from "./access/access.js";
import { App } from "./app.js";

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
void openAccess();
