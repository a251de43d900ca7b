const UNRELEASED = "## [Unreleased]\n";

/** Whether a changelog in the form of keepachangelog.com tells about a version. */
export function hasSection(changelog: string, version: string): boolean {
  return changelog.includes(`\n## [${version}] - `);
}

/**
 * The changelog in which what was unreleased is in the version. Throws an Error if nothing was: a
 * release that changes nothing for anybody is a mistake.
 */
export function releaseSection(changelog: string, version: string, date: string): string {
  const [before = "", after] = changelog.split(UNRELEASED);
  const unreleased = after?.split("\n## [", 1)[0]?.trim();
  if (!unreleased) throw new Error("CHANGELOG.md: expected changes below ## [Unreleased]");
  return `${before}${UNRELEASED}\n## [${version}] - ${date}\n${after}`;
}
