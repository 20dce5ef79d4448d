// How the page is built: plain files that a strict content security policy accepts
// (no inline script or style, no data: addresses), to be embedded in the binary.
import { defineConfig } from "vitest/config";

export default defineConfig({
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Two pages: the phone, and the diagnostic call.
    rollupOptions: { input: ["index.html", "diagnostic.html"] },
  },
  server: {
    host: "127.0.0.1",
    // For work on the page: `npm run dev -w web` beside a running `tandem dev`.
    proxy: { "/v1": "http://127.0.0.1:8080" },
  },
  test: {
    include: ["src/**/*.test.ts"],
    environment: "node",
    // For a test that hangs. A safety number alone is two seconds of hashing, and a busy machine takes several times as long.
    testTimeout: 60_000,
  },
});
