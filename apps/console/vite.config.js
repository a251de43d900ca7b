import { defineConfig } from "vite";

export default defineConfig({
  root: "src",
  base: "/console/",
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    target: "es2023",
    // Nothing inline: the Content-Security-Policy allows only what the server serves.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
