// Chromium as Debian ships it, with a fake camera and microphone, driven by Playwright.

import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { CHROMIUM, need } from "./paths.ts";
import { Side } from "./side.ts";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // 30 frames a second, as a usual camera gives. At the default of 20 the spacing of frames alone (two of 50 ms and a
  // screen refresh, when a frame is lost on either side of an outage) would use up the 100 ms that a test allows.
  "--use-fake-device-for-media-stream=fps=30",
  "--allow-loopback-in-peer-connection",
];

export interface ChromiumOptions {
  /** What the user answers when asked for the camera. */
  camera?: "allow" | "deny";
  /** What is started instead of Chromium itself, and starts it. */
  program?: string;
}

export function launchChromium({ camera = "allow", program }: ChromiumOptions = {}): Promise<Browser> {
  const answer = `--use-fake-ui-for-media-stream${camera === "deny" ? "=deny" : ""}`;
  return chromium.launch({
    executablePath: program ?? need(CHROMIUM, "install chromium, or name it in TANDEM_CHROMIUM"),
    args: [...FLAGS, answer],
  });
}

export class ChromiumSide extends Side {
  override readonly page: Page;

  constructor(name: string, page: Page) {
    super(name, page);
    this.page = page;
    page.on("pageerror", (error) => this.complaints.push(error.message));
    page.on("console", (line) => {
      if (line.type() === "error" || line.type() === "warning") this.complaints.push(line.text());
    });
  }

  /** A tab of its own profile, so that two sides share no storage. */
  static async open(browser: Browser, name: string, url: string, options: BrowserContextOptions = {}): Promise<ChromiumSide> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const side = new ChromiumSide(name, await context.newPage());
    await side.page.goto(url);
    return side;
  }

  async screenshot(file: string): Promise<void> {
    await this.page.screenshot({ path: file, fullPage: true });
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}
