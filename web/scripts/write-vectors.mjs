// Writes seal/vectors/web.json: what the page seals with fixed keys. What stands in it is src/phone/sealing/vectors.ts.

import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "vite";

const vite = await createServer({ server: { middlewareMode: true }, appType: "custom", logLevel: "error" });
try {
  const { makeVectors } = await vite.ssrLoadModule("/src/phone/sealing/vectors.ts");
  const folder = new URL("../../seal/vectors/", import.meta.url);
  await mkdir(folder, { recursive: true });
  await writeFile(new URL("web.json", folder), `${JSON.stringify(await makeVectors(), null, 2)}\n`);
} finally {
  await vite.close();
}
