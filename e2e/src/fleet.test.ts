// A PoP of fifteen processes, and a call that outlives each of them: who is on it has no ICE event and renegotiates nothing.
// How long media was away is printed, and written to target/e2e/fleet/gaps.json; benches judge it, these tests do not.

import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { launchChromium } from "./harness/chromium.ts";
import { Fleet, noFleet } from "./harness/fleet.ts";
import { outFolder } from "./harness/paths.ts";
import { Phone } from "./harness/phone.ts";
import { TandemDev } from "./harness/tandem-dev.ts";
import { until } from "./harness/until.ts";

/** Media is back well before that on any machine; a call whose media is away for longer is one that people give up. */
const AGAIN_TIMEOUT_MS = 10_000;
/** Packets of sound since the fault that show that it goes on: a second of it. */
const GOES_ON_PACKETS = 50;
/** Events of a phone that negotiates anew. */
const NEGOTIATION = ["restart", "offer", "negotiation", "signal", "ticket", "icecandidateerror"];

const missing = noFleet();
if (missing !== null) console.log(`skipped: ${missing}`);

interface Gap {
  fault: string;
  /** Without sound, as the ear heard it, on each side; null where nothing came any more. */
  played_ms: (number | null)[];
  /** Between two packets, at most. */
  packets_ms: (number | null)[];
  lost: number[];
}

let out: string;
let dev: TandemDev;
let fleet: Fleet;
let browser: Browser;
/** The call that one fault after the other hits. */
let sides: [Phone, Phone] | null = null;
/** Since when both of them talk. An event that comes late is seen by the test after. */
let talks_since: number[] = [];
const others: Phone[] = [];
const gaps: Gap[] = [];
let next = 0;

describe.skipIf(missing !== null)("a fleet", () => {
  beforeAll(async () => {
    out = await outFolder("fleet");
    [dev, browser] = await Promise.all([TandemDev.start(out, ["--fleet"]), launchChromium()]);
    fleet = new Fleet(dev);
  });

  beforeEach(() => fleet.whole());

  afterEach(async ({ task }) => {
    const failed = task.result?.state === "fail";
    if (failed) {
      const folder = await outFolder("fleet/failed");
      for (const phone of [...(sides ?? []), ...others]) {
        await phone.picture(folder, `${task.name.slice(0, 50)}-${phone.name}`).catch(() => undefined);
        console.log(phone.name, JSON.stringify(await phone.page.evaluate(() => window.phone.events().slice(-40)).catch(String)));
      }
    }
    // The next test has nothing to do with a call that was hurt.
    for (const phone of [...others.splice(0), ...(failed ? (sides ?? []) : [])]) await phone.close();
    if (failed) sides = null;
  });

  afterAll(async () => {
    await browser?.close();
    await dev?.stop();
    if (gaps.length > 0) await writeFile(path.join(out, "gaps.json"), `${JSON.stringify(gaps, null, 2)}\n`);
  });

  test("the relay that has the call is killed from the page that the call is on", async () => {
    const [a] = await talking();
    const relay = await fleet.relayOf(await callOf(a));
    await a.click("faults-tab");
    await a.page.selectOption('[data-testid="faults-away"]', "5000");
    await goesOn(`${relay} killed by the panel`, async () => {
      await a.click(`kill-${relay}`);
      await a.page.waitForSelector(`[data-name="${relay}"][data-state="down"]`);
    });
    expect(await fleet.relayOf(await callOf(a))).not.toBe(relay);
    await a.picture(out, "01-call-with-fault-panel");
    await a.page.waitForSelector(`[data-name="${relay}"][data-state="ready"]`, { timeout: 15_000 });
    expect(await a.page.textContent(`[data-name="${relay}"] span`)).toMatch(/runs · last away (5\d\d\d ms|\d+\.\d s)/);
    await a.page.keyboard.press("Escape");
    expect(await a.page.isVisible('[data-testid="faults"]')).toBe(false);
  });

  test("two relays that have the call are killed in a row", async () => {
    const [a] = await talking();
    const killed = [];
    for (const which of ["first", "second"]) {
      const relay = await fleet.relayOf(await callOf(a));
      killed.push(relay);
      await goesOn(`${relay} killed, the ${which} in a row`, () => dev.kill(relay, { restart_after_ms: 6_000 }));
    }
    expect(killed[0]).not.toBe(killed[1]);
  });

  test("the relay that has the call stands still for three seconds, and knows it", async () => {
    const [a] = await talking();
    const relay = await fleet.relayOf(await callOf(a));
    const before = await fleet.metric(relay, "tandem_relay_fences_total");
    await goesOn(`${relay} paused`, () => dev.pause(relay), { for_ms: 3_000 });
    expect(await fleet.relayOf(await callOf(a))).not.toBe(relay);
    await goesOn(`${relay} resumed`, () => dev.resume(relay));
    await until("the relay counts that it stood still", { timeout_ms: 5_000 }, async () => {
      return (await fleet.metric(relay, "tandem_relay_fences_total")) > before;
    });
  });

  test("the load balancer is killed and started again", async () => {
    await talking();
    await goesOn("lb killed", () => dev.kill("lb"));
  });

  test("a state server is killed", async () => {
    await talking();
    await goesOn("state-server-1 killed", () => dev.kill("state-server-1"));
  });

  test("the leader of etcd is killed", async () => {
    await talking();
    const leader = await fleet.leader();
    await goesOn(`${leader} killed, which led`, () => dev.kill(leader));
  });

  test("all of etcd stands still for fifteen seconds: the call goes on, a new one is refused calmly, and a later one works", async () => {
    await talking();
    const [carol, dave] = await Promise.all([other("carol"), other("dave")]);
    const nodes = (await dev.processes()).map(({ name }) => name).filter((name) => name.startsWith("etcd-"));
    const all = (order: "pause" | "resume") => Promise.all(nodes.map((name) => dev[order](name)));
    await goesOn("all of etcd paused", async () => {
      await all("pause");
      const paused = Date.now();
      try {
        await carol.calls(dave.name, "call-audio");
        await carol.ends("server-away", 14_000);
        await carol.picture(out, "02-call-without-etcd");
        expect((await dave.state()).screen).toBe("home");
        await until("fifteen seconds", { timeout_ms: 20_000 }, async () => Date.now() - paused >= 15_000);
      } finally {
        await all("resume");
      }
    });
    // What etcd had taken in while it stood still is done now: a ring for the call that carol was told there is none of ends.
    await until("a call can be placed again", { timeout_ms: 30_000, every_ms: 200 }, async () => {
      for (const phone of [carol, dave]) if ((await phone.state()).screen === "ended") await phone.home();
      const [caller, callee] = await Promise.all([carol.state(), dave.state()]);
      if (caller.screen === "home" && callee.screen === "home") await carol.calls(dave.name, "call-audio");
      return callee.screen === "incoming" && caller.call?.id != null && callee.call?.id === caller.call.id;
    });
    await dave.click("accept");
    await Promise.all([carol.talks(false), dave.talks(false)]);
  });

  test("signaling is killed between an answer and what the caller is told of it", async () => {
    const [erin, frank] = await Promise.all([other("erin"), other("frank")]);
    await erin.calls(frank.name, "call-audio");
    await frank.shows("incoming");
    await until("it rings", { timeout_ms: 5_000 }, async () => (await erin.state()).call?.phase === "ringing");
    // Nobody is told anything while the routers stand still, so signaling dies exactly in between.
    await Promise.all([dev.pause("router-1"), dev.pause("router-2")]);
    await frank.click("accept");
    await frank.shows("call");
    await until("the answer is given", { timeout_ms: 5_000 }, async () => (await frank.state()).call?.phase === "connecting");
    expect((await erin.state()).call?.phase).toBe("ringing");
    await Promise.all([dev.kill("signaling-1"), dev.kill("signaling-2")]);
    await Promise.all([dev.resume("router-1"), dev.resume("router-2")]);
    await Promise.all([erin.talks(false), frank.talks(false)]);
  });

  test("a router is killed: its devices come back through the other, and the call can be hung up", async () => {
    const [a, b] = await talking();
    const holds = await Promise.all((["router-1", "router-2"] as const).map((name) => fleet.metric(name, "tandem_router_connections")));
    const router = (holds[0] ?? 0) > 0 ? "router-1" : "router-2";
    await goesOn(`${router} killed`, async () => {
      const since = await Promise.all([a.now(), b.now()]);
      await dev.kill(router, { restart_after_ms: 5_000 });
      await until("a device has lost its connection", { timeout_ms: 5_000 }, async () => {
        const closed = await Promise.all([a, b].map((phone, i) => phone.page.evaluate(
          (at) => window.phone.events().some((event) => event.at >= at && event.name === "close"), since[i] ?? 0)));
        return closed.includes(true);
      });
      await Promise.all([a.connected(), b.connected()]);
    }, { negotiates: true });
    sides = null;
    others.push(a, b);
    await a.click("hang-up");
    await Promise.all([a.ends("hung-up"), b.ends("hung-up")]);
  });
});

async function other(name: string): Promise<Phone> {
  next += 1;
  const phone = await Phone.open(browser, dev.page, `${name}${next}`);
  others.push(phone);
  return phone;
}

/** The call of the tests before, or a new one if there is none: over relays only, through the load balancer's one port. */
async function talking(): Promise<[Phone, Phone]> {
  if (sides !== null) return sides;
  next += 1;
  const options = { viewport: { width: 1280, height: 800 } };
  const [a, b] = await Promise.all([
    Phone.open(browser, dev.page, `alice${next}`, options),
    Phone.open(browser, dev.page, `bob${next}`, options),
  ]);
  sides = [a, b];
  await a.calls(b.name, "call-audio");
  await b.shows("incoming");
  await b.click("accept");
  const [media] = await Promise.all([a.talks(false), b.talks(false)]);
  expect(media.pair).toBe("relay <-> relay");
  talks_since = await Promise.all(sides.map((phone) => phone.now()));
  return sides;
}

async function callOf(phone: Phone): Promise<string> {
  const { call } = await phone.state();
  if (call?.id == null) throw new Error(`${phone.name} is in no call`);
  return call.id;
}

interface Watched {
  /** Watched at least this long. */
  for_ms?: number;
  /** A phone whose connection to a router comes back restarts ICE, since its network may be another one. */
  negotiates?: boolean;
}

/** The call goes on under `fault`, which nobody on it notices by anything but a gap; that is printed. */
async function goesOn(
  fault: string,
  inflict: () => Promise<unknown>,
  { for_ms = 0, negotiates = false }: Watched = {},
): Promise<void> {
  if (sides === null) throw new Error("there is no call");
  const since = await Promise.all(sides.map((phone) => phone.now()));
  await inflict();
  await Promise.all(
    sides.map(async (phone, i) => {
      const before = await phone.media();
      await until(`${phone.name} hears the other side again`, { timeout_ms: AGAIN_TIMEOUT_MS + for_ms, every_ms: 100 }, async () => {
        const [now, at] = [await phone.media(), await phone.now()];
        const packets = (now?.audio_packets ?? 0) - (before?.audio_packets ?? 0);
        return packets >= GOES_ON_PACKETS && at - (since[i] ?? at) >= for_ms;
      });
    }),
  );
  const reports = await Promise.all(
    sides.map((phone, i) => phone.page.evaluate((at) => window.phone.probe.report(at), since[i] ?? 0)),
  );
  const round = (ms: number | null | undefined): number | null => (ms == null ? null : Math.round(ms));
  const gap: Gap = {
    fault,
    played_ms: reports.map(({ audio }) => round(audio.longest?.gap_ms)),
    packets_ms: reports.map(({ audio }) => round(audio.packet_gap_at_most_ms)),
    lost: reports.map(({ audio }) => audio.packets_lost),
  };
  gaps.push(gap);
  const read = reports.map(({ sample_interval_ms_max }) => sample_interval_ms_max.toFixed(0)).join(" and ");
  console.log(
    `${fault}: no sound for ${gap.played_ms.join(" and ")} ms, between packets at most ${gap.packets_ms.join(" and ")} ms, ` +
      `lost ${gap.lost.join(" and ")}; read every ${read} ms at worst`,
  );
  for (const [i, phone] of sides.entries()) {
    expect(await phone.iceEvents(talks_since[i] ?? 0), fault).toEqual([]);
    const events = await phone.page.evaluate(
      ({ at, names }) => window.phone.events().filter((event) => event.at >= at && names.includes(event.name)),
      { at: talks_since[i] ?? 0, names: NEGOTIATION },
    );
    if (!negotiates) expect(events, fault).toEqual([]);
    expect((await phone.state()).call?.phase, fault).toBe("connected");
  }
  if (!negotiates) for (const { pairs } of reports) expect(pairs, fault).toHaveLength(1);
}
