// Starts one `tandem dev` with its own ports and data folder, speaks to its development endpoints, and ends it.

import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { need, TANDEM_BIN } from "./paths.ts";
import { until } from "./until.ts";

/** From start to the line that says ready: up to fifteen processes and a fresh store, on a busy machine. */
const START_TIMEOUT_MS = 30_000;
/** From SIGTERM to the end; then SIGKILL. */
const STOP_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;

type Kind = "relay" | "state-server" | "directory" | "signaling" | "router" | "lb" | "etcd";

/** Of a fleet most have a number. */
export type ProcessName = Kind | `${Kind}-${number}`;

export interface Process {
  name: ProcessName;
  pid: number | null;
  state: "starting" | "ready" | "down" | "paused";
  starts: number;
  started_at_ms: number;
  ready_at_ms: number | null;
  down_at_ms: number | null;
  /** From the last death to being ready again. */
  outage_ms: number | null;
  /** Addresses by their names; null until it has served. */
  serves: Record<string, string> | null;
}

export interface Ready {
  page: string;
  turn: string;
  api: string;
  connect: string;
  data_dir: string;
  demo: { call_id: string; legs: { leg: number; ice_servers: RTCIceServer[] }[] };
  processes: Process[];
}

export interface KillOptions {
  restart_after_ms?: number;
  wipe?: boolean;
}

export class TandemDev {
  readonly ready: Ready;
  readonly #child: ChildProcess;
  readonly #folder: string;
  /** Its log is written to its end. */
  readonly #logged: Promise<void>;

  private constructor(child: ChildProcess, folder: string, ready: Ready, logged: Promise<void>) {
    this.#logged = logged;
    this.#child = child;
    this.#folder = folder;
    this.ready = ready;
  }

  /** Its stderr goes to `<out>/tandem-dev.log`, for whoever reads the report of a failure. With `--fleet`: harness/fleet.ts. */
  static async start(out: string, args: readonly string[] = []): Promise<TandemDev> {
    need(TANDEM_BIN, "build it first (cargo build), or name it in TANDEM_BIN");
    const folder = await mkdtemp(path.join(tmpdir(), "tandem-e2e-"));
    const log = path.join(out, "tandem-dev.log");
    const turn = args.includes("--turn") ? [] : ["--turn", "127.0.0.1:0"];
    const child = spawn(
      TANDEM_BIN,
      ["dev", "--json", "--http", "127.0.0.1:0", ...turn, "--data-dir", folder, ...args],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    const written = child.stderr.pipe(createWriteStream(log));
    const logged = new Promise<void>((resolve) => written.once("close", resolve));
    try {
      const ready = await firstLine(child, log);
      return new TandemDev(child, folder, ready, logged);
    } catch (error) {
      child.kill("SIGKILL");
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  get page(): string {
    return this.ready.page;
  }

  /** The page that connects two tabs without ringing. */
  get diagnostic(): string {
    return `${this.ready.page}diagnostic.html`;
  }

  async processes(): Promise<Process[]> {
    const { items } = await this.#request<{ items: Process[] }>("GET", "/v1/dev/processes");
    return items;
  }

  async process(name: ProcessName): Promise<Process> {
    const found = (await this.processes()).find((p) => p.name === name);
    if (found === undefined) throw new Error(`tandem dev lists no ${name}`);
    return found;
  }

  /** SIGKILL; `all` is all of them at once. Gives the pid that was killed (of the relay, for `all`, as the server says). */
  kill(name: ProcessName | "all", options: KillOptions = {}): Promise<{ pid: number | null }> {
    return this.#request("POST", `/v1/dev/processes/${name}/kill`, options);
  }

  pause(name: ProcessName): Promise<unknown> {
    return this.#request("POST", `/v1/dev/processes/${name}/pause`, {});
  }

  resume(name: ProcessName): Promise<unknown> {
    return this.#request("POST", `/v1/dev/processes/${name}/resume`, {});
  }

  /** The process that took the place of `before`: another pid, and ready. */
  replaced(before: Process, timeout_ms = 15_000): Promise<Process> {
    return until(`${before.name} replaced by another process that is ready`, { timeout_ms, every_ms: 10 }, async () => {
      const now = await this.process(before.name);
      return now.state === "ready" && now.pid !== before.pid && now.starts > before.starts && now;
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Ends the process, by its pid, and removes its data. */
  async stop(): Promise<void> {
    await this.end();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Ends the process, by its pid. Its data stays until `stop`, and its log is whole. */
  async end(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) {
      const ended = new Promise((resolve) => this.#child.once("close", resolve));
      this.#child.kill("SIGTERM");
      const late = setTimeout(() => this.#child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      await ended;
      clearTimeout(late);
    }
    await this.#logged;
  }

  async #request<T>(method: string, at: string, body?: object): Promise<T> {
    const response = await fetch(new URL(at, this.ready.page), {
      method,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${method} ${at}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }
}

/** The one line of JSON that `tandem dev --json` prints when all is ready. */
function firstLine(child: ChildProcess, log: string): Promise<Ready> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new Error(`tandem dev ${why}; its log: ${log}`));
    const late = setTimeout(() => fail(`was not ready within ${START_TIMEOUT_MS} ms`), START_TIMEOUT_MS);
    child.once("error", (error) => fail(`did not start: ${error.message}`));
    child.once("exit", (code, signal) => fail(`ended early (${code ?? signal})`));
    if (child.stdout === null) return fail("has no stdout");
    createInterface({ input: child.stdout }).once("line", (line) => {
      clearTimeout(late);
      try {
        resolve(JSON.parse(line) as Ready);
      } catch {
        fail("printed a first line that is not JSON");
      }
    });
  });
}
