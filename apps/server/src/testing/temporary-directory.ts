import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A directory of the test's own, removed when disposed of. */
export const temporaryDirectory = () => mkdtempDisposable(join(tmpdir(), "sessiond-"));
