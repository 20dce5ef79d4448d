// The device's connection: a WebSocket that comes back by itself, tells what came before `ready` as one, and acknowledges.
// It decides when to connect; what pushes mean is the machine's.

import { pause } from "../backoff.ts";
import { Inbox } from "./inbox.ts";
import { jitteredMs } from "./jitter.ts";
import { PUSH_LENGTH_MAX } from "./limits.ts";
import { type Push, parseFrame } from "./wire.ts";

export interface SocketEvents {
  connecting(): void;
  /** All that came before `ready`: the connection is up. */
  sync(pushes: Push[]): void;
  push(push: Push): void;
  /** It is lost and comes back by itself. */
  down(code: number): void;
  /** Another tab has this device now; it does not come back by itself. */
  elsewhere(): void;
}

export interface Around {
  url: string;
  token(anew: boolean): Promise<string>;
  random(): number;
  open(url: string, protocols: string[]): WebSocket;
}

const CLOSED_ELSEWHERE = 4409;

export class Socket {
  readonly #around: Around;
  readonly #events: SocketEvents;
  readonly #inbox = new Inbox();
  #socket: WebSocket | null = null;
  #running = false;
  #hurry = new AbortController();

  constructor(around: Around, events: SocketEvents) {
    this.#around = around;
    this.#events = events;
  }

  /** Connects, and again whenever the connection is lost. */
  connect(): void {
    if (!this.#running) void this.#run();
  }

  /** The network is back: the pause before the next try, if there is one, ends now. */
  hurry(): void {
    this.#hurry.abort();
  }

  ack(ids: string[]): void {
    this.#inbox.done(ids);
    // On a lost connection they are delivered again, and acknowledged then.
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type: "ack", ids }));
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let waited_ms = 0; ; ) {
      this.#events.connecting();
      const { code, was_up } = await this.#once();
      this.#socket = null;
      if (code === CLOSED_ELSEWHERE) break;
      if (was_up) waited_ms = 0;
      this.#events.down(code);
      waited_ms = jitteredMs(waited_ms, this.#around.random());
      this.#hurry = new AbortController();
      await pause(waited_ms, this.#hurry.signal);
    }
    this.#running = false;
    this.#events.elsewhere();
  }

  /** One connection, from its start to its end. */
  async #once(): Promise<{ code: number; was_up: boolean }> {
    let token: string;
    try {
      token = await this.#around.token(true);
    } catch {
      return { code: 0, was_up: false };
    }
    return new Promise((resolve) => {
      const socket = this.#around.open(this.#around.url, ["tandem.v1", `bearer.${token}`]);
      this.#socket = socket;
      let before_ready: Push[] | null = [];
      socket.addEventListener("message", ({ data }) => {
        const push = typeof data === "string" && data.length <= PUSH_LENGTH_MAX ? parseFrame(data) : null;
        if (push === null) return;
        if (push.type === "ready") {
          // Only now: what a connection told that broke off before `ready` was not taken up.
          const all = (before_ready ?? []).filter((told) => this.#admit(told));
          before_ready = null;
          this.#events.sync(all);
        } else if (before_ready !== null) {
          before_ready.push(push);
        } else if (this.#admit(push)) {
          this.#events.push(push);
        }
      });
      socket.addEventListener("close", ({ code }) => resolve({ code, was_up: before_ready === null }));
    });
  }

  #admit(push: Push): boolean {
    const verdict = this.#inbox.admit(push);
    if (verdict === "done" && push.id !== undefined) this.ack([push.id]);
    return verdict === "new";
  }
}
