// A browser and a device of the Rust SDK: each opens what the other one sealed, and hears and sees it, in a call through all
// processes. The device gives back what it gets, so what the browser decodes went both ways. It has no address but that in
// the call.

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

/** One that shows nobody its address. */
async function relayed(account: string): Promise<Phone> {
  const phone = await Phone.open(browser, dev.page, account);
  await phone.page.check('[data-testid="always-relay"]');
  return phone;
}

test("a browser calls a device of the SDK, and both open what the other one sealed", async () => {
  const phone = await relayed("alice");
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
  const { pair } = await phone.talks();
  expect(pair).toBe("relay <-> relay");
  await robot.says("echoes", "audio");
  await robot.says("echoes", "video");
  expect(safety).toMatch(/^\d{60}$/);
  expect(await phone.page.evaluate(() => window.phone.safety("robot"))).toBe(safety);

  await phone.click("mute");
  expect(await robot.says("heard", "media")).toMatchObject({ sends: { microphone: false, camera: true } });
  await until("the page shows what the robot says of its microphone", { timeout_ms: 5_000, every_ms: 50 }, () =>
    phone.page.evaluate(() => window.phone.events().some(({ name, detail }) => name === "signal" && detail === "media")),
  );
  await phone.pictures(out, "01-call-with-the-sdk");
  await phone.click("hang-up");
  expect(await robot.says("ended")).toEqual({ ended: "Hangup" });
  const { echoed } = (await robot.says("echoed")) as { echoed: { audio: number; video: number } };
  expect(echoed.audio).toBeGreaterThan(20);
  expect(echoed.video).toBeGreaterThan(10);
  expect(sealed).toHaveLength(1);
  expect(sealed[0]).toBeLessThan(SEALED_BYTES_MAX);
  console.log(`a browser's offer of sound and picture, sealed: ${sealed[0]} bytes`);
  expect(phone.complaints).toEqual([]);
  await phone.close();
});

test("a device of the SDK calls a browser, and the browser hears and sees it", async () => {
  const phone = await relayed("bob");
  const caller = await Robot.start(dev.ready, "caller", { calls: "bob" });
  try {
    await phone.shows("incoming");
    await phone.click("accept");
    const { pair } = await phone.talks();
    expect(pair).toBe("relay <-> relay");
    await phone.pictures(out, "03-call-of-the-sdk");
    await phone.click("hang-up");
    expect(await caller.says("ended")).toEqual({ ended: "Hangup" });
    expect(phone.complaints).toEqual([]);
  } finally {
    caller.stop();
    await phone.close();
  }
});

test("the relay is killed in a call with the SDK, and sound and picture go on without an event", async () => {
  const phone = await relayed("dora");
  await phone.calls("robot");
  await phone.talks();
  const [from, before] = [await phone.now(), await dev.process("relay")];
  await dev.kill("relay");
  await dev.replaced(before);
  const { pair } = await phone.talks();
  expect(pair).toBe("relay <-> relay");
  expect(await phone.iceEvents(from)).toEqual([]);
  await phone.click("hang-up");
  await phone.close();
});

test("a browser whose network has changed finds another way to the SDK", async () => {
  const phone = await relayed("gina");
  await phone.calls("robot");
  await phone.talks();
  const theirs = (): Promise<string | undefined> =>
    phone.page.evaluate(() => window.phone.pc()?.remoteDescription?.sdp.match(/a=ice-ufrag:\S+/)?.[0]);
  const before = await theirs();
  await phone.page.evaluate(() => window.dispatchEvent(new Event("online")));
  await robot.says("heard", "restart-offer");
  await until("the SDK has answered with another way", { timeout_ms: 5_000, every_ms: 50 }, async () => (await theirs()) !== before);
  const { pair } = await phone.talks();
  expect(pair).toBe("relay <-> relay");
  await phone.click("hang-up");
  await phone.close();
});

test("a page that is loaded anew in a call with the SDK hears and sees it again", async () => {
  const phone = await relayed("fred");
  await phone.calls("robot");
  await phone.talks();
  const call = (await phone.state()).call?.id;
  await phone.page.reload();
  await phone.talks();
  expect((await phone.state()).call?.id).toBe(call);
  await phone.click("hang-up");
  await phone.close();
});

test("who shows another certificate than the seal names is not talked to, and the page says so", async () => {
  const mallory = await Robot.start(dev.ready, "mallory", { wrong_fingerprint: true });
  const phone = await relayed("erin");
  try {
    await phone.calls("mallory");
    await phone.ends("unsecured");
    await phone.pictures(out, "04-another-certificate");
    expect(String((await mallory.says("refused"))["refused"])).toContain("alert");
    expect(await mallory.says("ended")).toEqual({ ended: "Hangup" });
    // There was a way, and nothing but the certificate kept media from it.
    const events = await phone.page.evaluate(() => window.phone.events().map(({ name, detail }) => `${name} ${detail}`));
    expect(events).toContain("ice connected");
    expect(events).toContain("connection failed");
    expect(events).not.toContain("connection connected");
    expect(await mallory.says("echoed")).toEqual({ echoed: { audio: 0, video: 0 } });
    // It was never shown as connected: the history has no duration.
    await phone.home();
    expect(await phone.page.textContent('[data-testid="history"] span')).toBe("Outgoing · video");
    expect(phone.complaints).toEqual([]);
  } finally {
    mallory.stop();
    await phone.close();
  }
});

test("that an operator holds the keys of the other side is shown before the call and during it", async () => {
  const cloud = await Robot.start(dev.ready, "cloud", { hosted: true });
  const phone = await Phone.open(browser, dev.page, "carol");
  try {
    await phone.calls("cloud");
    await phone.page.waitForSelector('[data-custody="hosted"]');
    await phone.shows("call");
    await phone.page.waitForSelector('[data-custody="hosted"]');
    expect(await phone.page.textContent('[data-custody="hosted"]')).toContain("An operator holds keys of cloud, and can listen.");
    await phone.pictures(out, "02-call-with-a-hosted-device");
    await phone.click("hang-up");
    await cloud.says("ended");
  } finally {
    cloud.stop();
    await phone.close();
  }
});
