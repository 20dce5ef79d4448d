// A browser and a device of the Rust SDK: each opens what the other one sealed, in a call through all processes.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launchChromium } from "./harness/chromium.ts";
import { outFolder } from "./harness/paths.ts";
import { Phone } from "./harness/phone.ts";
import { Robot } from "./harness/robot.ts";
import { TandemDev } from "./harness/tandem-dev.ts";
import { until } from "./harness/until.ts";

/** What a blob may have (docs/api.md). */
const SEALED_BYTES_MAX = 8_192;

let out: string;
let dev: TandemDev;
let browser: Browser;
let robot: Robot;

beforeAll(async () => {
  out = await outFolder("sdk");
  dev = await TandemDev.start(out);
  robot = await Robot.start(dev.ready, "robot");
  browser = await launchChromium();
});

afterAll(async () => {
  robot?.stop();
  await browser?.close();
  await dev?.stop();
});

test("a browser calls a device of the SDK, and both open what the other one sealed", async () => {
  const phone = await Phone.open(browser, dev.page, "alice");
  const sealed: number[] = [];
  phone.page.on("request", (request) => {
    if (request.method() !== "POST" || !request.url().endsWith("/v1/calls")) return;
    const body = request.postDataJSON() as { sealed: Record<string, string> };
    sealed.push(...Object.values(body.sealed).map((blob) => atob(blob).length));
  });
  await phone.calls("robot");
  // The fingerprint that the robot read under the seal is the one that this browser made.
  const { offered } = await robot.says("offered");
  expect(String(offered)).toMatch(/^a=fingerprint:sha-256 [0-9A-F:]{95}$/);
  const { safety } = await robot.says("answered");
  await phone.shows("call");
  expect(safety).toMatch(/^\d{60}$/);
  expect(await phone.page.evaluate(() => window.phone.safety("robot"))).toBe(safety);

  await phone.click("mute");
  expect(await robot.says("heard", "media")).toMatchObject({ sends: { microphone: false, camera: true } });
  await until("the page shows what the robot says of its microphone", { timeout_ms: 5_000, every_ms: 50 }, () =>
    phone.page.evaluate(() => window.phone.events().some(({ name, detail }) => name === "signal" && detail === "media")),
  );
  await phone.picture(out, "01-call-with-the-sdk");
  await phone.click("hang-up");
  expect(await robot.says("ended")).toEqual({ ended: "Hangup" });
  expect(sealed).toHaveLength(1);
  expect(sealed[0]).toBeLessThan(SEALED_BYTES_MAX);
  console.log(`a browser's offer of sound and picture, sealed: ${sealed[0]} bytes`);
  expect(phone.complaints).toEqual([]);
  await phone.close();
});

test("that an operator holds the keys of the other side is shown before the call and during it", async () => {
  const cloud = await Robot.start(dev.ready, "cloud", true);
  const phone = await Phone.open(browser, dev.page, "carol");
  try {
    await phone.calls("cloud");
    await phone.page.waitForSelector('[data-custody="hosted"]');
    await phone.shows("call");
    await phone.page.waitForSelector('[data-custody="hosted"]');
    expect(await phone.page.textContent('[data-custody="hosted"]')).toContain("An operator holds keys of cloud, and can listen.");
    await phone.picture(out, "02-call-with-a-hosted-device");
    await phone.click("hang-up");
    await cloud.says("ended");
  } finally {
    cloud.stop();
    await phone.close();
  }
});
