/** What the shop sells. */
export interface Tea {
  readonly id: string;
  readonly name: string;
  readonly origin: string;
  readonly taste: string;
  readonly price: string;
  /** Of the tin, from light to dark. */
  readonly colors: readonly [string, string];
}

export const TEAS: readonly Tea[] = [
  {
    id: "sencha",
    name: "First Flush Sencha",
    origin: "Uji, Japan",
    taste: "Cut grass, sea air, a sweet end.",
    price: "14.00",
    colors: ["#b7d68a", "#4f8a4b"],
  },
  {
    id: "oolong",
    name: "Iron Goddess Oolong",
    origin: "Anxi, China",
    taste: "Orchid and warm milk.",
    price: "18.50",
    colors: ["#9fd0c4", "#2c7873"],
  },
  {
    id: "assam",
    name: "Golden Tip Assam",
    origin: "Dibrugarh, India",
    taste: "Malt, honey, and a strong back.",
    price: "11.00",
    colors: ["#f2c078", "#b4532a"],
  },
  {
    id: "earl-grey",
    name: "Smoked Earl Grey",
    origin: "Our own blend",
    taste: "Bergamot over a dying fire.",
    price: "12.50",
    colors: ["#b9b6dd", "#514b8f"],
  },
  {
    id: "rooibos",
    name: "Cederberg Rooibos",
    origin: "Clanwilliam, South Africa",
    taste: "Red earth, vanilla, no caffeine.",
    price: "9.00",
    colors: ["#f0a08c", "#a63446"],
  },
  {
    id: "mint",
    name: "Nana Mint",
    origin: "Meknes, Morocco",
    taste: "Cool, then cooler.",
    price: "8.00",
    colors: ["#bfe3c8", "#1f7a5c"],
  },
];
