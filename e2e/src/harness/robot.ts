// A device of the Rust SDK as a process: it answers every call of a browser, without media (client/examples/sdp_call.rs).

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Ready } from "./tandem-dev.ts";
import { need, SDP_CALL_BIN } from "./paths.ts";
import { until } from "./until.ts";

export type Said = Readonly<Record<string, unknown>>;

export class Robot {
  readonly said: Said[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout !== null) createInterface(child.stdout).on("line", (line) => this.said.push(JSON.parse(line) as Said));
  }

  /** `hosted`: an operator holds its keys. */
  static async start({ api, connect }: Ready, account: string, hosted = false): Promise<Robot> {
    need(SDP_CALL_BIN, "build it first (cargo build -p tandem-client --example sdp_call), or name it in TANDEM_SDP_CALL");
    const args = ["--api", api, "--connect", connect, "--account", account, ...(hosted ? ["--hosted"] : [])];
    const robot = new Robot(spawn(SDP_CALL_BIN, args, { stdio: ["ignore", "pipe", "inherit"] }));
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
