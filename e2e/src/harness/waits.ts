// How long processes waited for a core, and how busy the machine was: what stands beside a gap. As the kernel accounts for it
// (/proc/*/task/*/schedstat); what grew within one look is the longest that a thread can have stood still in it.

import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

const LOOK_EVERY_MS = 200;
/** USER_HZ: 100 on every platform that browsers run on. */
const TICKS_PER_S = 100;

interface Look {
  at_ms: number;
  waited_ms: Map<string, number>;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal. */
function ticks(): { busy: number; all: number } {
  const all = (read("/proc/stat").split("\n")[0] ?? "").trim().split(/\s+/).slice(1, 9).map(Number);
  const sum = all.reduce((a, b) => a + b, 0);
  return { busy: sum - (all[3] ?? 0) - (all[4] ?? 0), all: sum };
}

/** User and system time: fields 14 and 15 of proc_pid_stat(5). */
function used_ticks(pid: number): number | null {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return stat === "" ? null : Number(fields[11]) + Number(fields[12]);
}

/** This process and all that it has started, and what that has. */
function family(): number[] {
  const children = new Map<number, number[]>();
  for (const pid of list("/proc").map(Number).filter((pid) => pid > 0)) {
    const stat = read(`/proc/${pid}/stat`);
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const all = [process.pid];
  for (const pid of all) all.push(...(children.get(pid) ?? []));
  return all;
}

export class Waits {
  readonly #names: ReadonlyMap<number, string>;
  readonly #before = ticks();
  readonly #began = performance.now();
  readonly #waited = new Map<string, number>();
  /** CPU of each process, in ticks: when it was first seen, and last. */
  readonly #used = new Map<number, [number, number]>();
  readonly #looks: Look[] = [];
  readonly #timer: NodeJS.Timeout;
  #family: number[] = family();
  /** Every name that was ever looked at. */
  readonly #seen = new Set<string>();

  /** Begins to look. `names` are those of the processes of a `tandem dev`; others have the kernel's. */
  constructor(names: ReadonlyMap<number, string>) {
    this.#names = names;
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  #name(pid: number): string {
    const known = this.#names.get(pid);
    if (known !== undefined) return known;
    const type = /--type=([a-z-]+)/.exec(read(`/proc/${pid}/cmdline`))?.[1];
    return [read(`/proc/${pid}/comm`).trim() || "?", ...(type === undefined ? [] : [type])].join("-");
  }

  #look(): void {
    // Who is new is looked for now and then: to list all processes costs more than to look at ours.
    if (this.#looks.length % 5 === 0) this.#family = family();
    const waited_ms = new Map<string, number>();
    for (const pid of this.#family) {
      const name = this.#name(pid);
      this.#seen.add(name);
      const used = used_ticks(pid);
      if (used !== null) this.#used.set(pid, [this.#used.get(pid)?.[0] ?? used, used]);
      for (const thread of list(`/proc/${pid}/task`)) {
        const key = `${pid}/${thread}`;
        const waited = Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(" ")[1] ?? 0) / 1e6;
        const grew = waited - (this.#waited.get(key) ?? waited);
        this.#waited.set(key, waited);
        waited_ms.set(name, Math.max(waited_ms.get(name) ?? 0, grew));
      }
    }
    this.#looks.push({ at_ms: Date.now(), waited_ms });
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#look();
  }

  /** What ours took of all cores, in percent. */
  ours(): number {
    const ticks = [...this.#used.values()].reduce((sum, [first, last]) => sum + last - first, 0);
    return (100 * ticks) / TICKS_PER_S / availableParallelism() / ((performance.now() - this.#began) / 1_000);
  }

  /** How busy all cores were, in percent, with whatever else ran. */
  machine(): number {
    const now = ticks();
    return (100 * (now.busy - this.#before.busy)) / Math.max(now.all - this.#before.all, 1);
  }

  /** Each process and its longest wait that may lie between these times, the longest first. */
  beside(from_ms: number, to_ms: number): string {
    const most = new Map<string, number>();
    for (const look of this.#looks.filter(({ at_ms }) => at_ms >= from_ms && at_ms <= to_ms + LOOK_EVERY_MS)) {
      for (const [name, ms] of look.waited_ms) most.set(name, Math.max(most.get(name) ?? 0, ms));
    }
    const noted = [...most].filter(([, ms]) => ms > 5).sort(([, a], [, b]) => b - a);
    const quiet = [...this.#seen].filter((name) => !noted.some(([other]) => other === name));
    const words = noted.map(([name, ms]) => `${name} ${ms.toFixed(1)} ms`);
    return [...words, ...(quiet.length > 0 ? [`at most 5 ms: ${quiet.join(" ")}`] : [])].join(", ");
  }
}
