// A phone that loses the address that its call runs on, while it has another one: an ICE restart, and the call goes on.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser } from "playwright-core";
import { launchChromium } from "./harness/chromium.ts";
import { Namespace, RELAY } from "./harness/namespace.ts";
import { CHROMIUM, outFolder } from "./harness/paths.ts";
import { Phone } from "./harness/phone.ts";
import { TandemDev } from "./harness/tandem-dev.ts";
import { until } from "./harness/until.ts";

const root = process.getuid?.() === 0;

let out: string;
let dev: TandemDev | undefined;
let namespace: Namespace | undefined;
const browsers: Browser[] = [];

beforeAll(async () => {
  if (!root) return;
  out = await outFolder("network");
  namespace = await Namespace.make();
  dev = await TandemDev.start(out, ["--turn", `${RELAY}:0`]);
  const ports = [dev.ready.page, dev.ready.api, dev.ready.connect].map((address) => Number(new URL(address).port));
  await namespace.forward(ports);
  browsers.push(await launchChromium(), await launchChromium({ program: await namespace.wrapped(CHROMIUM) }));
});

afterAll(async () => {
  for (const browser of browsers) await browser.close();
  await dev?.stop();
  await namespace?.remove();
});

async function talking(name: string): Promise<{ a: Phone; b: Phone }> {
  const [here, there] = browsers;
  if (!here || !there || !dev) throw new Error("not set up");
  const a = await Phone.open(here, dev.page, `alice-${name}`);
  const b = await Phone.open(there, dev.page, `bob-${name}`);
  await a.calls(`bob-${name}`);
  await b.shows("incoming");
  await b.click("accept");
  const [media] = await Promise.all([b.talks(), a.talks()]);
  expect(media.pair).toBe("relay <-> relay");
  return { a, b };
}

/** The restarts that a phone has made since `at`. */
function restarts(phone: Phone, at: number): Promise<number> {
  return phone.page.evaluate((since) => window.phone.events().filter((e) => e.at > since && e.name === "restart").length, at);
}

test.skipIf(!root)("a phone that loses one of its two addresses goes on with the other", async () => {
  const { a, b } = await talking("two");
  namespace?.down(1);
  await Promise.all([b.talks(), a.talks()]);
  // And for longer than it would take to notice that nothing comes.
  await until("eight seconds of talk", { timeout_ms: 30_000, every_ms: 100 }, async () => {
    const media = await b.media();
    return media !== null && media.audio_packets > 500 && media;
  });
  await Promise.all([b.talks(), a.talks()]);
  await a.click("hang-up");
  await b.ends("hung-up");
  namespace?.up(1);
});

test.skipIf(!root)("a phone that moves to another network restarts ICE there, and the call goes on", async () => {
  namespace?.down(2);
  const { a, b } = await talking("moves");
  const moved = await b.now();
  namespace?.up(2);
  namespace?.down(1);
  await until("an ICE restart", { timeout_ms: 40_000 }, async () => (await restarts(b, moved)) + (await restarts(a, moved)) > 0);
  await Promise.all([b.talks(), a.talks()]);
  expect((await b.state()).call?.phase).toBe("connected");
  await b.picture(out, "in-the-other-network");
  await a.click("hang-up");
  await b.ends("hung-up");
});
