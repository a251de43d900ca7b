// Names that the declarations of better-auth take from elsewhere: from Bun, and from the DOM.
declare module "bun:sqlite" {
  export type Database = never;
}

type JsonWebKey = import("node:crypto").webcrypto.JsonWebKey;
