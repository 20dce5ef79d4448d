// The heart: the relay is killed under a running call and another process goes on from the store.

import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { ChromiumSide, launchChromium } from "./harness/chromium.ts";
import { keepEvidence } from "./harness/evidence.ts";
import { disturbances, type Failover, failover } from "./harness/failover.ts";
import { outFolder } from "./harness/paths.ts";
import { table } from "./harness/report.ts";
import { TandemDev } from "./harness/tandem-dev.ts";

/**
 * What the browsers may need beyond the process's outage: the next packet, and a key frame in place of one that was cut, on
 * cores that others use too. Without the relay's part a call needs longer: ICE is started anew after some seconds. The
 * measure is `cargo xtask bench failover`.
 */
const GAP_BEYOND_OUTAGE_MS = 1_000;

/**
 * How far off a gap may be on a machine that reads in time: a screen refresh and two readings. Where a page got no core for
 * longer, what it shows as a gap is its own standstill by so much; the report says so in its column "resolution".
 */
const RESOLUTION_IN_TIME_MS = 50;

/** Longer than Chromium needs to notice that its checks are not answered. */
const WATCH_MS = 9_000;

let dev: TandemDev;
let browser: Browser;
let a: ChromiumSide;
let b: ChromiumSide;

beforeAll(async () => {
  dev = await TandemDev.start(await outFolder("failover"));
  browser = await launchChromium();
});

afterAll(async () => {
  await browser?.close();
  await dev?.stop();
});

beforeEach(async () => {
  a = await ChromiumSide.open(browser, "a", dev.diagnostic);
  b = await ChromiumSide.open(browser, "b", dev.diagnostic);
  await a.connect();
  await b.connect();
  await a.talks(40);
  await b.talks(40);
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await keepEvidence(task.name, [a, b]);
  await a?.close();
  await b?.close();
});

test("the relay is killed and replaced by another process, and the browsers do not notice", async () => {
  const folder = await outFolder("failover/relay-killed");
  const result = await failover("The relay is killed", folder, dev, [a, b], () => dev.kill("relay"), { watch_ms: WATCH_MS });
  unnoticed(result);
});

test("the kill button of the page does the same", async () => {
  const folder = await outFolder("failover/kill-button");
  const result = await failover("The relay is killed by the button", folder, dev, [a, b], () => a.page.click("#kill-relay"));
  unnoticed(result);
  await a.shows("kill-note", new RegExp(`pid ${result.after.pid} took over after \\d+ ms`));
  await a.shows("processes", new RegExp(`relay${result.after.pid}ready${result.after.starts}`));
});

test("the relay is killed three times in a row, and the call goes on each time", async () => {
  for (const time of ["first", "second", "third"]) {
    const folder = await outFolder(`failover/three-kills/${time}`);
    unnoticed(await failover(`The ${time} of three kills`, folder, dev, [a, b], () => dev.kill("relay")));
  }
});

test("the state server and the relay are killed together, and the call goes on from the store", async () => {
  const folder = await outFolder("failover/all-killed");
  const result = await failover("Both are killed", folder, dev, [a, b], () => dev.kill("all"));
  unnoticed(result);
});

test("with the store deleted the call does not come back: the checks above can fail", async () => {
  const folder = await outFolder("failover/store-deleted");
  const result = await failover("Both are killed, the store is deleted", folder, dev, [a, b], () => dev.kill("all", { wipe: true }));
  expect(result.after.pid).not.toBe(result.before.pid);
  expect(result.again, table(result.report)).toEqual([false, false]);
  for (const side of Object.values(result.report.sides)) {
    expect(side.audio.longest?.open && side.video.longest?.open, table(result.report)).toBe(true);
  }
});

function unnoticed({ before, after, report, pairs, again }: Failover): void {
  const seen = table(report);
  expect(after.pid, seen).not.toBe(before.pid);
  expect(again, seen).toEqual([true, true]);
  expect(pairs.after, seen).toEqual(pairs.before);
  for (const side of Object.values(report.sides)) {
    expect(disturbances(side), seen).toEqual([]);
    expect(side.pairs, seen).toHaveLength(1);
    for (const kind of [side.audio, side.video]) {
      const unread_ms = Math.max(0, kind.resolution_ms - RESOLUTION_IN_TIME_MS);
      expect(kind.longest?.gap_ms, seen).toBeLessThanOrEqual((after.outage_ms ?? 0) + GAP_BEYOND_OUTAGE_MS + unread_ms);
    }
  }
}
