// A device of the Rust SDK as a process: it answers every call of a browser, or calls one, and gives back what it hears and
// sees (client/examples/webrtc_echo).

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Ready } from "./tandem-dev.ts";
import { need, ROBOT_BIN } from "./paths.ts";
import { until } from "./until.ts";

export type Said = Readonly<Record<string, unknown>>;

export interface RobotOptions {
  /** An operator holds its keys. */
  hosted?: boolean;
  /** Whom it calls; without, it waits for calls. */
  calls?: string;
  /** Under the seal it names another certificate's fingerprint than that of the one it shows. */
  wrong_fingerprint?: boolean;
}

export class Robot {
  readonly said: Said[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout !== null) createInterface(child.stdout).on("line", (line) => this.said.push(JSON.parse(line) as Said));
  }

  static async start({ api, connect }: Ready, account: string, options: RobotOptions = {}): Promise<Robot> {
    need(ROBOT_BIN, "build it first (cargo build -p tandem-client --example webrtc_echo), or name it in TANDEM_ROBOT");
    const { hosted, calls, wrong_fingerprint } = options;
    const args = ["--api", api, "--connect", connect, "--account", account];
    if (hosted === true) args.push("--hosted");
    if (calls !== undefined) args.push("--call", calls);
    if (wrong_fingerprint === true) args.push("--wrong-fingerprint");
    const robot = new Robot(spawn(ROBOT_BIN, args, { stdio: ["ignore", "pipe", "inherit"] }));
    await robot.says("ready");
    return robot;
  }

  /** The first line with this word (and of this value). */
  says(word: string, value?: unknown): Promise<Said> {
    return until(`the robot says ${word}`, { timeout_ms: 15_000, every_ms: 20 }, async () =>
      this.said.find((said) => word in said && (value === undefined || said[word] === value)) ?? false,
    );
  }

  stop(): void {
    this.#child.kill();
  }
}
