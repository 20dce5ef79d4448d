// What the tests of one file share: a running `tandem dev`, a browser, and the phones of the test that runs. Call `stage` once, at
// the top of the file.

import type { Browser, BrowserContextOptions, Route } from "playwright-core";
import { afterAll, afterEach, beforeAll } from "vitest";
import { launchChromium } from "./chromium.ts";
import { outFolder } from "./paths.ts";
import { Phone } from "./phone.ts";
import { TandemDev } from "./tandem-dev.ts";
import { until } from "./until.ts";

export interface Stage {
  /** target/e2e/<name>. */
  readonly out: string;
  readonly dev: TandemDev;
  readonly browser: Browser;
  /** Accounts that no other test has. */
  names(): { alice: string; bob: string };
  /** A phone that is closed after the test; if that fails, with a picture and its last events. */
  phone(account: string, options?: BrowserContextOptions & { first?: Phone }): Promise<Phone>;
  /** Two phones that are in a call with each other. */
  talking(): Promise<{ a: Phone; b: Phone }>;
}

export function stage(name: string): Stage {
  const open: Phone[] = [];
  let [out, dev, browser]: [string, TandemDev | null, Browser | null] = ["", null, null];
  let next = 0;

  beforeAll(async () => {
    out = await outFolder(name);
    dev = await TandemDev.start(out);
    browser = await launchChromium();
  });

  afterEach(async ({ task }) => {
    if (task.result?.state === "fail") {
      const folder = await outFolder(`${name}/failed`);
      for (const [n, phone] of open.entries()) {
        await phone.picture(folder, `${task.name.slice(0, 50)}-${n}-${phone.name}`).catch(() => undefined);
        console.log(phone.name, JSON.stringify(await phone.page.evaluate(() => window.phone.events().slice(-40)).catch(String)));
      }
    }
    for (const phone of open.splice(0)) await phone.close();
  });

  afterAll(async () => {
    await browser?.close();
    await dev?.stop();
  });

  const there = <T>(one: T | null): T => {
    if (one === null) throw new Error("only within a test");
    return one;
  };
  const made: Stage = {
    get out() {
      return out;
    },
    get dev() {
      return there(dev);
    },
    get browser() {
      return there(browser);
    },
    names() {
      next += 1;
      return { alice: `alice${next}`, bob: `bob${next}` };
    },
    async phone(account, options = {}) {
      const opened = await Phone.open(made.browser, made.dev.page, account, options);
      open.push(opened);
      return opened;
    },
    async talking() {
      const { alice, bob } = made.names();
      const a = await made.phone(alice);
      const b = await made.phone(bob);
      await a.calls(bob);
      await b.shows("incoming");
      await b.click("accept");
      await Promise.all([a.talks(), b.talks()]);
      return { a, b };
    },
  };
  return made;
}

/** The words under the name in a call. */
export function says(one: Phone, words: string): Promise<unknown> {
  return until(`${one.name} reads "${words}"`, { timeout_ms: 20_000, every_ms: 20 }, async () =>
    (await one.page.textContent('[data-testid="status"]')) === words,
  );
}

export const PLACING = /\/v1\/calls$/;

/** From now on the calls of this phone are refused like this, whatever `meanwhile` does with each request. */
export function refusesCalls(
  one: Phone,
  problem: { status: number; [field: string]: unknown },
  meanwhile: (route: Route) => Promise<unknown> = async () => undefined,
): Promise<unknown> {
  return one.page.route(PLACING, async (route) => {
    await meanwhile(route);
    await route.fulfill({
      status: problem.status,
      contentType: "application/problem+json",
      headers: { "access-control-allow-origin": "*" },
      json: { type: "about:blank", ...problem },
    });
  });
}
