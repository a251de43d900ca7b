/**
 * The content type that an `Accept` header prefers (RFC 9110, 12.5.1), or the first if it prefers
 * none. Prometheus asks for OpenMetrics first, and people with a browser for neither.
 */
export function chooseFormat(accept: string | undefined, offered: readonly string[]): string {
  const ranges = (accept ?? "").split(",").map(parseRange);
  const [first = ""] = offered;
  let chosen = { type: first, quality: 0 };
  for (const type of offered) {
    const [name = "", ...parameters] = type.split(";").map((part) => part.trim());
    const fitting = ranges.filter(
      (range) =>
        range.name === name &&
        (range.version === undefined || parameters.includes(`version=${range.version}`)),
    );
    const quality = Math.max(0, ...fitting.map((range) => range.quality));
    if (quality > chosen.quality) chosen = { type, quality };
  }
  return chosen.type;
}

function parseRange(text: string) {
  const [name = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const parameter = (key: string) =>
    parameters.find((one) => one.startsWith(`${key}=`))?.slice(key.length + 1);
  const quality = Number(parameter("q") ?? 1);
  return { name, version: parameter("version")?.replaceAll('"', ""), quality };
}
