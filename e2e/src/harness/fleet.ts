// What the tests ask a `tandem dev --fleet`: who has a call, who leads, what a process counts, whether all is well again.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { TANDEM_BIN } from "./paths.ts";
import type { Process, ProcessName, TandemDev } from "./tandem-dev.ts";
import { until } from "./until.ts";

/** A process that was killed is back, and a relay serves again by the table: its load balancer has heard of it. */
const WHOLE_TIMEOUT_MS = 30_000;
const REQUEST_TIMEOUT_MS = 5_000;

/** What `tandem admin where` says. */
interface Where {
  now: number | null;
  relays: { relay: number; standing: string; state: string }[];
}

const run = promisify(execFile);

/** Why there can be no fleet on this machine; null: there can. */
export function noFleet(): string | null {
  const there = (process.env["PATH"] ?? "").split(path.delimiter).some((folder) => existsSync(path.join(folder, "etcd")));
  return there ? null : "etcd is not installed (Debian: etcd-server), so there is no fleet to test";
}

export class Fleet {
  readonly #dev: TandemDev;

  constructor(dev: TandemDev) {
    this.#dev = dev;
  }

  /** The relay that has this call. */
  async relayOf(call: string): Promise<ProcessName> {
    const { now } = await this.#where(["--call", call]);
    if (now === null) throw new Error("the load balancer knows of no relay for the call");
    return `relay-${now}`;
  }

  /** The node of etcd that leads, by the words of the first that answers. */
  async leader(): Promise<ProcessName> {
    const nodes = (await this.#dev.processes()).filter(({ name }) => name.startsWith("etcd-"));
    for (const node of nodes) {
      const { leader, header } = await statusOf(node);
      if (leader === header.member_id) return node.name;
    }
    throw new Error("no node of etcd says that it leads");
  }

  /** A figure of a process, summed over its labels. */
  async metric(name: ProcessName, metric: string): Promise<number> {
    const response = await fetch(`${await this.#admin(name)}/metrics`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    const lines = (await response.text()).split("\n").filter((line) => line.startsWith(`${metric} `) || line.startsWith(`${metric}{`));
    if (lines.length === 0) throw new Error(`${name} has no ${metric}`);
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
  }

  /** All processes serve, and so do all relays by what the load balancer knows: nothing of an earlier fault is left. */
  async whole(count = 4): Promise<void> {
    const patience = { timeout_ms: WHOLE_TIMEOUT_MS, every_ms: 100 };
    await until("all processes serve", patience, async () => (await this.#dev.processes()).every(({ state }) => state === "ready"));
    await until("all relays serve", patience, async () => {
      const { relays } = await this.#where(["--bucket", "0000"]);
      return relays.length === count && relays.every(({ standing, state }) => standing === "serving" && state === "up");
    });
  }

  async #where(which: string[]): Promise<Where> {
    const { stdout } = await run(TANDEM_BIN, ["admin", "where", ...which, "--lb", await this.#admin("lb")]);
    return JSON.parse(stdout) as Where;
  }

  async #admin(name: ProcessName): Promise<string> {
    const { serves } = await this.#dev.process(name);
    if (serves?.["admin"] === undefined) throw new Error(`${name} has not said where its admin port is`);
    return `http://${serves["admin"]}`;
  }
}

/** By etcd's own gateway, so that nothing more has to be installed. */
async function statusOf({ name, serves }: Process): Promise<{ leader: string; header: { member_id: string } }> {
  const response = await fetch(`http://${serves?.["client"]}/v3/maintenance/status`, {
    method: "POST",
    body: "{}",
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return (await response.json()) as { leader: string; header: { member_id: string } };
}
