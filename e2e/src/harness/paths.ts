// Where the harness finds what it runs, and where it puts what it saw. Environment variables win.

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");

export const TANDEM_BIN = process.env["TANDEM_BIN"] ?? path.join(ROOT, "target/debug/tandem");
export const ROBOT_BIN = process.env["TANDEM_ROBOT"] ?? path.join(ROOT, "target/debug/examples/webrtc_echo");
export const CANARIES_BIN = process.env["TANDEM_CANARIES"] ?? path.join(ROOT, "target/debug/examples/canaries");
export const CHROMIUM = process.env["TANDEM_CHROMIUM"] ?? "/usr/bin/chromium";
export const FIREFOX = process.env["TANDEM_FIREFOX"] ?? "/usr/bin/firefox-esr";

/** A folder for one test's reports, screenshots and logs: target/e2e/<name>. */
export async function outFolder(name: string): Promise<string> {
  const folder = path.join(ROOT, "target/e2e", name);
  await mkdir(folder, { recursive: true });
  return folder;
}

/** Says at once, in plain words, what is missing. */
export function need(file: string, hint: string): string {
  if (!existsSync(file)) throw new Error(`${file} is missing: ${hint}`);
  return file;
}
