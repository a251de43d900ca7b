import { registerHooks } from "node:module";

// Loaded with `node --import`, lets Node run the sources as they are: Node strips the types,
// but takes an import of `./x.js` literally.

registerHooks({
  resolve(specifier, context, next) {
    const isOfSource = specifier.startsWith(".") && context.parentURL?.endsWith(".ts");
    return next(isOfSource ? specifier.replace(/\.js$/, ".ts") : specifier, context);
  },
});
