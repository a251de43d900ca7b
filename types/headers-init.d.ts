/**
 * The declarations of @connectrpc/connect name this type of TypeScript's `dom`
 * library, of which nothing else exists in Node.js.
 */
type HeadersInit = NonNullable<ConstructorParameters<typeof Headers>[0]>;
