/** The types of @connectrpc/connect name this type of the DOM, which those of Node lack. */
type HeadersInit = NonNullable<ConstructorParameters<typeof Headers>[0]>;
