// What one call between two Chromiums notices of each fault of a PoP: a PoP and a call of their own for each fault and run.
// `cargo xtask bench failover` runs this, in a network of its own where a link can be cut.
//
// TANDEM_FAILOVER_RUNS: how often each. TANDEM_FAILOVER_ONLY: only faults with this in their names.

import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Browser } from "playwright-core";
import { test } from "vitest";
import { launchChromium } from "./harness/chromium.ts";
import { Fleet, noFleet } from "./harness/fleet.ts";
import { cut, mend, noLink } from "./harness/link.ts";
import { outFolder, TANDEM_BIN } from "./harness/paths.ts";
import { Phone } from "./harness/phone.ts";
import { type ProcessName, TandemDev } from "./harness/tandem-dev.ts";
import { until } from "./harness/until.ts";
import { Waits } from "./harness/waits.ts";

const RUNS = Number(process.env["TANDEM_FAILOVER_RUNS"] ?? "5");
const ONLY = process.env["TANDEM_FAILOVER_ONLY"] ?? "";
/** Of all cores. */
const CPU_PERCENT = 60;
/** That long is nobody started again who is to stay away. */
const AWAY = { restart_after_ms: 600_000 };
/** Between two faults in a row. */
const BETWEEN_MS = 2_000;
/** Watched after the last fault: what comes late, comes within it. */
const AFTER_MS = 3_000;
/** Jitter of a busy machine is no gap: two intervals and a half. */
const NOTHING_MS = 50;

interface Stage {
  dev: TandemDev;
  fleet: Fleet;
  /** Opens another phone, which is closed with the others. */
  phone(name: string): Promise<Phone>;
  /** The relay that has the call now. It has the fault then. */
  relay(): Promise<ProcessName>;
  /** Ends with the run. */
  ends(child: ChildProcess): void;
  log: string[];
}

interface Fault {
  name: string;
  budget_ms: number;
  relays?: number;
  /** Packets may be lost. */
  loses?: true;
  /** Before the call is watched. */
  prepare?(stage: Stage): Promise<void>;
  inflict(stage: Stage): Promise<unknown>;
}

/** What `prepare` made for `inflict`. */
let rings: { caller: Phone; callee: Phone } | null = null;

const FAULTS: Fault[] = [
  { name: "none", budget_ms: NOTHING_MS, inflict: async () => undefined },
  { name: "a relay of four killed", budget_ms: 50, loses: true, inflict: (stage) => killed(stage, 1) },
  { name: "a relay of three killed", budget_ms: 50, relays: 3, loses: true, inflict: (stage) => killed(stage, 1) },
  { name: "two relays of four killed, one after the other", budget_ms: 50, loses: true, inflict: (stage) => killed(stage, 2) },
  { name: "three relays of four killed, one after the other", budget_ms: 150, loses: true, inflict: (stage) => killed(stage, 3) },
  {
    name: "a relay stopped for 3 s",
    budget_ms: 150,
    loses: true,
    inflict: async ({ dev, relay }) => {
      const had = await relay();
      await dev.pause(had);
      await passed(3_000);
      await dev.resume(had);
    },
  },
  {
    name: "a relay's link down for 3 s",
    budget_ms: 150,
    loses: true,
    inflict: async ({ dev, relay }) => {
      cut(await pidOf(dev, await relay()));
      await passed(3_000);
      mend();
    },
  },
  {
    name: "a relay drained",
    budget_ms: NOTHING_MS,
    inflict: async ({ dev, relay }) => process.kill(await pidOf(dev, await relay()), "SIGTERM"),
  },
  { name: "the load balancer killed", budget_ms: 1_000, loses: true, inflict: ({ dev }) => dev.kill("lb") },
  {
    name: "the load balancer replaced",
    budget_ms: NOTHING_MS,
    prepare: async (stage) => stage.ends(await anotherLb(stage)),
    inflict: async ({ dev }) => process.kill(await pidOf(dev, "lb"), "SIGTERM"),
  },
  { name: "a state server killed", budget_ms: NOTHING_MS, inflict: ({ dev }) => dev.kill("state-server-1", AWAY) },
  { name: "etcd's leader killed", budget_ms: NOTHING_MS, inflict: async ({ dev, fleet }) => dev.kill(await fleet.leader(), AWAY) },
  {
    name: "all of etcd stopped for 60 s",
    budget_ms: NOTHING_MS,
    inflict: async ({ dev }) => {
      const nodes = (await dev.processes()).map(({ name }) => name).filter((name) => name.startsWith("etcd-"));
      await Promise.all(nodes.map((name) => dev.pause(name)));
      await passed(60_000);
      await Promise.all(nodes.map((name) => dev.resume(name)));
    },
  },
  {
    name: "signaling killed between accept and push",
    budget_ms: NOTHING_MS,
    prepare: ringing,
    inflict: (stage) => beforePush(stage, ["signaling-1", "signaling-2"]),
  },
  {
    name: "the routers killed between accept and push",
    budget_ms: NOTHING_MS,
    prepare: ringing,
    inflict: (stage) => beforePush(stage, ["router-1", "router-2"]),
  },
];

function passed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function pidOf(dev: TandemDev, name: ProcessName): Promise<number> {
  const { pid } = await dev.process(name);
  if (pid === null) throw new Error(`${name} does not run`);
  return pid;
}

/** The relay that has the call, and the next that has it then. */
async function killed({ dev, relay }: Stage, count: number): Promise<void> {
  for (let nth = 0; nth < count; nth += 1) {
    if (nth > 0) await passed(BETWEEN_MS);
    await dev.kill(await relay(), AWAY);
  }
}

/** Another load balancer on the same public port; it serves. */
async function anotherLb({ dev }: Stage): Promise<ChildProcess> {
  const config = path.join(dev.ready.data_dir, "lb.toml");
  const child = spawn(TANDEM_BIN, ["lb", "--config", config, "--set", "admin=127.0.0.1:0", "--die-with-parent", String(process.pid)], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  await new Promise<void>((resolve, reject) => {
    child.once("exit", () => reject(new Error("the other load balancer has ended")));
    if (child.stdout !== null) createInterface({ input: child.stdout }).once("line", () => resolve());
  });
  return child;
}

/** A second call, which rings. */
async function ringing({ phone }: Stage): Promise<void> {
  const [caller, callee] = await Promise.all([phone("erin"), phone("frank")]);
  await caller.calls(callee.name, "call-audio");
  await callee.shows("incoming");
  await until("it rings", { timeout_ms: 5_000 }, async () => (await caller.state()).call?.phase === "ringing");
  rings = { caller, callee };
}

/** The call that rings is accepted while no router can tell its caller; then these are killed. The caller is told even so. */
async function beforePush({ dev, log }: Stage, killed: ProcessName[]): Promise<void> {
  if (rings === null) throw new Error("nothing rings");
  const { caller, callee } = rings;
  await Promise.all([dev.pause("router-1"), dev.pause("router-2")]);
  await callee.click("accept");
  await until("the answer is given", { timeout_ms: 5_000 }, async () => (await callee.state()).call?.phase === "connecting");
  if ((await caller.state()).call?.phase !== "ringing") throw new Error("the caller knew before the kill");
  const since = performance.now();
  await Promise.all(killed.map((name) => dev.kill(name)));
  const others = (["router-1", "router-2"] as const).filter((name) => !killed.includes(name));
  await Promise.all(others.map((name) => dev.resume(name)));
  await Promise.all([caller.talks(false), callee.talks(false)]);
  log.push(`the call that was accepted talks ${(performance.now() - since).toFixed(0)} ms after the kill`);
}

interface Run {
  gap_ms: number;
  lost: number;
  calls_lost: number;
  moved: number;
  ice: number;
  /** Of all cores, in percent: ours, and with whatever else ran. */
  cpu: number;
  machine: number;
}

const breaches: string[] = [];
const notes: string[] = [];

async function run(browser: Browser, fault: Fault, nth: number, out: string): Promise<Run | null> {
  const dev = await TandemDev.start(out, ["--fleet", "--relays", String(fault.relays ?? 4)]);
  const phones: Phone[] = [];
  const children: ChildProcess[] = [];
  try {
    const fleet = new Fleet(dev);
    const phone = async (name: string): Promise<Phone> => {
      const opened = await Phone.open(browser, dev.page, name, { viewport: { width: 800, height: 600 } });
      phones.push(opened);
      return opened;
    };
    await fleet.whole(fault.relays);
    const sides = await Promise.all([phone("alice"), phone("bob")]);
    const [a, b] = sides;
    await a.calls(b.name, "call-audio");
    await b.shows("incoming");
    await b.click("accept");
    const [{ pair }] = await Promise.all([a.talks(false), b.talks(false)]);
    if (pair !== "relay <-> relay") throw new Error(`the call goes ${pair}`);
    const id = (await a.state()).call?.id ?? "";
    const hurt = new Set<ProcessName>();
    const relay = async (): Promise<ProcessName> => {
      const had = await fleet.relayOf(id);
      hurt.add(had);
      return had;
    };
    const stage: Stage = { dev, fleet, phone, relay, ends: (child) => children.push(child), log: [] };
    await fault.prepare?.(stage);
    return await watch(fault, nth, sides, id, stage, hurt, out);
  } finally {
    rings = null;
    for (const child of children) child.kill("SIGKILL");
    for (const phone of phones) await phone.close();
    await dev.stop();
  }
}

async function watch(
  fault: Fault,
  nth: number,
  sides: [Phone, Phone],
  id: string,
  stage: Stage,
  hurt: Set<ProcessName>,
  out: string,
): Promise<Run> {
  const names = new Map((await stage.dev.processes()).flatMap(({ name, pid }) => (pid === null ? [] : [[pid, name] as const])));
  const before = await stage.fleet.relayOf(id);
  const log = path.join(out, "tandem-dev.log");
  const logged = (await readFile(log, "utf8")).length;
  const waits = new Waits(names);
  const since = await Promise.all(sides.map((phone) => phone.now()));
  let failed: unknown = null;
  try {
    await fault.inflict(stage);
  } catch (error) {
    failed = error;
  }
  await passed(AFTER_MS);
  const reports = await Promise.all(sides.map((phone, i) => phone.page.evaluate((at) => window.phone.probe.report(at), since[i] ?? 0)));
  const ice = (await Promise.all(sides.map((phone, i) => phone.iceEvents(since[i] ?? 0)))).flat();
  waits.stop();
  const states = await Promise.all(sides.map((phone) => phone.state()));
  const after = await stage.fleet.relayOf(id).catch(() => null);

  const over = (what: string, [from, to]: [number, number] = [Math.min(...since), Date.now()]): void => {
    breaches.push(`${fault.name}, run ${nth}: ${what}; waits beside it: ${waits.beside(from, to)}; machine ${waits.machine().toFixed(0)} % busy`);
  };
  if (failed !== null) over(`the fault was not done, or a call that was accepted did not come about: ${String(failed)}`);
  const gaps = reports.map(({ audio }) => audio.longest);
  for (const [i, { audio, sample_interval_ms_max }] of reports.entries()) {
    const { longest } = audio;
    const name = sides[i]?.name ?? "";
    // A reading that comes late makes a gap longer than it was: that much is not held against anyone, but said.
    if (longest === null) over(`${name} has heard nothing`);
    else if (longest.gap_ms - audio.resolution_ms > fault.budget_ms) {
      over(
        `${name} ${longest.open ? "hears nothing any more since" : "heard nothing for"} ${longest.gap_ms.toFixed(0)} ms (${audio.resolution_ms.toFixed(0)} ms of it may be the reading, which ` +
          `stood still for ${sample_interval_ms_max.toFixed(0)} ms), ${audio.packets_lost} packets lost`,
        [longest.from_ms, longest.to_ms],
      );
    }
  }
  const lost = reports.reduce((sum, { audio }) => sum + Math.max(audio.packets_lost, 0), 0);
  if (lost > 0 && fault.loses !== true) over(`${lost} packets lost, and none may be`);
  if (ice.length > 0) over(`ICE events: ${ice.join(", ")}`);
  const gone = states.filter(({ call }) => call?.phase !== "connected").length;
  if (gone > 0) over("the call is lost");
  const down = (await readFile(log, "utf8")).slice(logged).matchAll(/a relay is taken for down.*?relay=(\d+)/g);
  const healthy = !hurt.has(before);
  const taken = [...down].some(([, relay]) => before === `relay-${relay}`);
  const moved = healthy && (after !== before || taken);
  if (moved) over(`the call's relay, ${before}, was healthy, and the call moved${after === before ? " away and back" : ` to ${after}`}`);
  if (waits.ours() > CPU_PERCENT) over(`CPU ${waits.ours().toFixed(0)} % of all cores`);
  notes.push(...stage.log.map((line) => `${fault.name}, run ${nth}: ${line}`));
  return {
    gap_ms: Math.max(...gaps.map((gap) => gap?.gap_ms ?? Number.POSITIVE_INFINITY)),
    lost,
    calls_lost: Number(gone > 0 || failed !== null),
    moved: Number(moved),
    ice: ice.length,
    cpu: waits.ours(),
    machine: waits.machine(),
  };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

test("one call between Chromiums, and each fault of a PoP", async () => {
  const missing = noFleet();
  if (missing !== null) return console.log(`left out: ${missing}`);
  const out = await outFolder("failover-measure");
  const browser = await launchChromium();
  console.log(`\nOne call between Chromiums, audio, relays only; ${RUNS} runs a fault, medians; milliseconds without sound, the worse side\n`);
  console.log("| fault | budget | gap | max of all runs | packets lost | calls lost | moved though healthy | ICE events | CPU | machine |");
  console.log("|---|---|---|---|---|---|---|---|---|---|");
  try {
    for (const fault of FAULTS.filter(({ name }) => name.includes(ONLY))) {
      const why = fault.name.includes("link") ? noLink() : null;
      if (why !== null) {
        notes.push(`left out: ${fault.name}: ${why}`);
        continue;
      }
      const runs: Run[] = [];
      for (let nth = 1; nth <= RUNS; nth += 1) {
        const done = await run(browser, fault, nth, out).catch((error: unknown) => {
          breaches.push(`${fault.name}, run ${nth}: not measured: ${String(error)}`);
          return null;
        });
        if (done !== null) runs.push(done);
      }
      const of = (figure: (run: Run) => number): string => median(runs.map(figure)).toFixed(0);
      const most = (figure: (run: Run) => number): string => Math.max(...runs.map(figure)).toFixed(0);
      const columns = [
        fault.name, fault.budget_ms, of((run) => run.gap_ms), most((run) => run.gap_ms), of((run) => run.lost), most((run) => run.calls_lost),
        most((run) => run.moved), most((run) => run.ice), `${of((run) => run.cpu)} %`, `${of((run) => run.machine)} %`,
      ];
      console.log(`| ${columns.join(" | ")} |`);
    }
  } finally {
    await browser.close();
  }
  for (const note of notes) console.log(`\n- ${note}`);
  console.log(`\nover budget: ${breaches.length}`);
  for (const breach of breaches) console.log(`- ${breach}`);
});
