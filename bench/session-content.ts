import type { SessionClient } from "@sessiond/client";

const CREATED_TOGETHER = 100;

/** What a typical session of a web application has, that of the n-th user. */
export function contentOf(n: number) {
  return {
    displayName: `User ${n}`,
    roles: ["editor", "billing"],
    client: {
      ip: `203.0.113.${n % 256}`,
      userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
      device: "laptop",
    },
    data: { theme: "dark", locale: "en-GB", cart: [`sku-${n}`, "sku-2"] },
  };
}

/** Creates sessions of the users `from` to `to - 1` that no call touches. Returns their tokens. */
export async function createSessions(
  client: SessionClient,
  from: number,
  to: number,
): Promise<string[]> {
  const tokens: string[] = [];
  const create = (n: number) =>
    client.createSession({ ...contentOf(n), userId: `user-${n}`, idleTimeoutMs: 24 * 3_600_000 });
  for (let start = from; start < to; start += CREATED_TOGETHER) {
    const length = Math.min(CREATED_TOGETHER, to - start);
    const created = await Promise.all(Array.from({ length }, (_, i) => create(start + i)));
    tokens.push(...created.map(({ token }) => token));
  }
  return tokens;
}
