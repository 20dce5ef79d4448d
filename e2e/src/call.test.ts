// A call between two Chromium tabs through the relay, and what the page shows of it.

import path from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { ChromiumSide, launchChromium } from "./harness/chromium.ts";
import { keepEvidence } from "./harness/evidence.ts";
import { outFolder } from "./harness/paths.ts";
import { TandemDev } from "./harness/tandem-dev.ts";

const RELAY_PAIR = /^relay 203\.0\.113\.\d+:\d+ <-> relay 203\.0\.113\.\d+:\d+$/;

let out: string;
let dev: TandemDev;
let browser: Browser;
const open: ChromiumSide[] = [];

beforeAll(async () => {
  out = await outFolder("call");
  dev = await TandemDev.start(out);
  browser = await launchChromium();
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await keepEvidence(task.name, open);
  for (const side of open.splice(0)) await side.close();
});

afterAll(async () => {
  await browser?.close();
  await dev?.stop();
});

test("two tabs connect relay-only, and sound and picture flow both ways", async () => {
  const a = await tab("a");
  const b = await tab("b");
  await a.connect();
  await a.shows("status", /^Waiting for the other tab$/);
  await b.connect();
  for (const side of [a, b]) {
    const now = await side.talks();
    expect(now.pair).toMatch(RELAY_PAIR);
    await side.shows("status", /^Connected$/);
    await side.shows("pair", RELAY_PAIR);
    await side.shows("rate-in", /bit\/s$/);
    await side.shows("rtt", / ms$/);
    await side.shows("gap-audio", / ms$/);
  }
  const legs = await Promise.all([a, b].map((side) => side.page.evaluate(() => window.tandem.leg)));
  expect(legs).toEqual([1, 2]);

  await pictures(a, "connected");
  await a.page.click("#hang-up");
  await a.shows("status", /^Hung up$/);
  await b.shows("status", /^The other side left$/);
  expect([...a.complaints, ...b.complaints]).toEqual([]);
});

test("a tab that was reloaded connects again, whichever leg it is", async () => {
  const a = await tab("a");
  const b = await tab("b");
  await b.connect();
  await b.shows("status", /^Waiting for the other tab$/);
  await a.connect();
  for (const side of [a, b]) await side.talks();
  const call = await a.page.evaluate(() => window.tandem.call_id);

  for (const [reloaded, stayed] of [
    [a, b],
    [b, a],
  ] as const) {
    const leg = await reloaded.page.evaluate(() => window.tandem.leg);
    await reloaded.page.reload();
    await stayed.shows("status", /^The other side left$/);
    await reloaded.connect();
    for (const side of [a, b]) await side.talks();
    const again = await reloaded.page.evaluate(() => ({ call_id: window.tandem.call_id, leg: window.tandem.leg }));
    expect(again).toEqual({ call_id: call, leg });
  }
  expect([...a.complaints, ...b.complaints]).toEqual([]);
});

test("a duplicated tab is the other leg, not the same one again", async () => {
  const a = await tab("a");
  await a.connect();
  await a.shows("status", /^Waiting for the other tab$/);
  // A window opened by a page gets a copy of its sessionStorage, as the browser's own "duplicate tab" does.
  const [opened] = await Promise.all([
    a.page.waitForEvent("popup"),
    a.page.evaluate(() => void window.open(location.href)),
  ]);
  await opened.waitForLoadState();
  const b = new ChromiumSide("b", opened);
  await b.connect();
  for (const side of [a, b]) await side.talks();
  const legs = await Promise.all([a, b].map((side) => side.page.evaluate(() => window.tandem.leg)));
  expect(legs).toEqual([1, 2]);
});

test("a camera that is refused gets a calm message, and nothing else happens", async () => {
  const careful = await launchChromium({ camera: "deny" });
  try {
    const side = await ChromiumSide.open(careful, "careful", dev.diagnostic);
    await side.connect();
    await side.shows("message", /were not allowed/);
    await side.shows("status", /^Not connected$/);
    expect(await side.page.isEnabled("#connect")).toBe(true);
    expect(side.complaints).toEqual([]);
    await pictures(side, "refused");
  } finally {
    await careful.close();
  }
});

test("the page is reached and worked by keyboard alone", async () => {
  const side = await tab("keys");
  // Past the link to the phone.
  await side.page.keyboard.press("Tab");
  await side.page.keyboard.press("Tab");
  expect(await focused(side)).toBe("connect");
  await side.page.keyboard.press("Enter");
  await side.shows("status", /^Waiting for the other tab$/);
  expect(await focused(side)).toBe("hang-up");
  await side.page.keyboard.press("Space");
  await side.shows("status", /^Hung up$/);
  expect(await focused(side)).toBe("connect");
});

/** A fresh tab, closed after the test. */
async function tab(name: string): Promise<ChromiumSide> {
  const side = await ChromiumSide.open(browser, name, dev.diagnostic);
  open.push(side);
  return side;
}

function focused(side: ChromiumSide): Promise<string> {
  return side.page.evaluate(() => document.activeElement?.id ?? "");
}

/** The page on a desk and on a phone, light and dark; a phone must never scroll sideways. */
async function pictures(side: ChromiumSide, name: string): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await side.page.emulateMedia({ colorScheme });
    for (const [device, width, height] of [
      ["desktop", 1280, 900],
      ["phone", 360, 740],
    ] as const) {
      await side.page.setViewportSize({ width, height });
      const wide = await side.page.evaluate(() => document.documentElement.scrollWidth);
      expect(wide, `${device} ${colorScheme} scrolls sideways`).toBeLessThanOrEqual(width);
      await side.screenshot(path.join(out, `${name}-${device}-${colorScheme}.png`));
    }
  }
  await side.page.emulateMedia({ colorScheme: null });
  await side.page.setViewportSize({ width: 1280, height: 900 });
}
