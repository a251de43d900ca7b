// Puts the console, as it was built, into the server's package, from where the server serves it.
import { cpSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const pathOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const target = pathOf("../apps/server/dist/console");
// Names change with the contents: those of the last build would stay.
rmSync(target, { recursive: true, force: true });
cpSync(pathOf("../apps/console/dist"), target, { recursive: true });
