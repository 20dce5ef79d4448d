// What is kept of a test that failed: how each side looked, and what it had to say.

import { writeFile } from "node:fs/promises";
import path from "node:path";
import { outFolder } from "./paths.ts";
import type { Side } from "./side.ts";

/** Writes pictures and events of the sides into target/e2e/failed/<test>. A side that is gone leaves a note instead. */
export async function keepEvidence(test: string, sides: readonly Side[]): Promise<void> {
  const folder = await outFolder(path.join("failed", test.replace(/[^A-Za-z0-9]+/g, "-").slice(0, 80)));
  for (const side of sides) {
    try {
      await side.screenshot(path.join(folder, `${side.name}.png`));
      const seen = await side.page.evaluate(async () => ({
        snapshot: await window.tandem.snapshot(),
        events: [...window.tandem.events],
      }));
      await writeFile(
        path.join(folder, `${side.name}.json`),
        `${JSON.stringify({ ...seen, complaints: side.complaints }, null, 2)}\n`,
      );
    } catch (error) {
      await writeFile(path.join(folder, `${side.name}.txt`), `no evidence: ${String(error)}\n`);
    }
  }
}
