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
