// Makes sure that the tests find a real redis-server: uses the one on the PATH,
// or installs Debian's where that can be done without asking.
import { execFileSync, spawnSync } from "node:child_process";

if (!isInstalled("redis-server")) {
  if (process.getuid?.() === 0 && isInstalled("apt-get")) install();
  if (!isInstalled("redis-server")) {
    console.error(`The tests need redis-server 7 or newer on the PATH. To install it:
  Debian, Ubuntu  sudo apt-get install redis-server
  Fedora          sudo dnf install redis
  macOS           brew install redis`);
    process.exit(1);
  }
}

function isInstalled(command: string): boolean {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
}

function install(): void {
  console.log("redis-server is missing; installing Debian's");
  // Run level 1 keeps the package from starting a server of its own.
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const options = { stdio: ["ignore", "ignore", "inherit"], env } as const;
  try {
    execFileSync("apt-get", ["update", "-qq"], options);
    execFileSync("apt-get", ["install", "-y", "-qq", "redis-server"], options);
  } catch {
    // What apt-get said is on the terminal; what to do about it follows.
  }
}
