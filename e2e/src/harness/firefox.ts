// Firefox ESR as Debian ships it, with a fake camera and microphone, driven by Puppeteer over WebDriver BiDi.

import puppeteer, { type Browser, type Page } from "puppeteer-core";
import { FIREFOX, need } from "./paths.ts";
import { Side } from "./side.ts";

export function launchFirefox(): Promise<Browser> {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: need(FIREFOX, "install firefox-esr, or name it in TANDEM_FIREFOX"),
    headless: true,
    extraPrefsFirefox: {
      // Without it Firefox makes no candidate for a TURN server on 127.0.0.1.
      "media.peerconnection.ice.loopback": true,
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "media.autoplay.default": 0,
      // Nothing but the call on this machine's network and processor.
      "app.update.enabled": false,
      "browser.safebrowsing.update.enabled": false,
      "network.captive-portal-service.enabled": false,
      "network.connectivity-service.enabled": false,
      "media.gmp-manager.updateEnabled": false,
    },
  });
}

export class FirefoxSide extends Side {
  override readonly page: Page;

  constructor(name: string, page: Page) {
    super(name, page);
    this.page = page;
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("console", (line) => {
      if (line.type() === "error") this.complaints.push(line.text());
    });
  }

  static async open(browser: Browser, name: string, url: string): Promise<FirefoxSide> {
    const context = await browser.createBrowserContext();
    const side = new FirefoxSide(name, await context.newPage());
    await side.page.goto(url);
    return side;
  }

  async screenshot(file: string): Promise<void> {
    await this.page.screenshot({ path: file as `${string}.png`, fullPage: true });
  }

  async close(): Promise<void> {
    await this.page.browserContext().close();
  }
}
