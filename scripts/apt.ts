import { type ExecFileSyncOptions, execFileSync, spawnSync } from "node:child_process";

/** Whether apt-get is here and needs no password: then we are root on a Debian or Ubuntu system. */
export function canInstall(): boolean {
  return process.getuid?.() === 0 && spawnSync("apt-get", ["--version"]).status === 0;
}

/** Installs packages by apt-get, or does not: the caller looks whether what it needs is there. */
export function install(packages: readonly string[]): void {
  // In run level 1 a package starts no server.
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const options: ExecFileSyncOptions = { stdio: ["ignore", "ignore", "inherit"], env };
  try {
    execFileSync("apt-get", ["update", "-qq"], options);
    execFileSync(
      "apt-get",
      ["install", "-y", "-qq", "--no-install-recommends", ...packages],
      options,
    );
  } catch {
    // apt-get has written the cause to the terminal. The caller's own message follows.
  }
}
