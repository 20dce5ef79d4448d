// Carries messages to the other leg and back: one POST at a time in order, and a long poll that comes back after
// network errors. It does not read what it carries.

import { backoffMs, pause } from "./backoff.ts";
import { ApiError, type DevApi, type SignalItem } from "./dev-api.ts";
import { OUTBOX_MAX, POLL_TIMEOUT_MS, POLL_WAIT_MS } from "./limits.ts";

export interface Route {
  api: Pick<DevApi, "sendSignal" | "pollSignals">;
  call_id: string;
  leg: number;
  signal: AbortSignal;
  /** Told once when the network fails and once when it is back. */
  onState(state: "lost" | "back"): void;
}

/** Messages waiting to go out. The order is kept; a message is sent until it was answered, so it may arrive twice. */
export class Outbox {
  readonly #route: Route;
  readonly #waiting: object[] = [];
  #sending = false;
  #dropped = 0;

  constructor(route: Route) {
    this.#route = route;
  }

  /** Messages refused because the box was full, or that the server refused for good. */
  get dropped(): number {
    return this.#dropped;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes a message, or says no when the box is full. */
  send(message: object): boolean {
    if (this.#waiting.length >= OUTBOX_MAX) {
      this.#dropped += 1;
      return false;
    }
    this.#waiting.push(message);
    void this.#drain();
    return true;
  }

  async #drain(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    const { api, call_id, leg, signal, onState } = this.#route;
    let failures = 0;
    for (let next = this.#waiting[0]; next !== undefined && !signal.aborted; next = this.#waiting[0]) {
      try {
        await api.sendSignal(call_id, leg, next, signal);
        if (failures > 0) onState("back");
        failures = 0;
        this.#waiting.shift();
      } catch (error) {
        if (signal.aborted) break;
        if (error instanceof ApiError && !error.again) {
          this.#dropped += 1;
          this.#waiting.shift();
          continue;
        }
        failures += 1;
        if (failures === 1) onState("lost");
        await pause(backoffMs(failures), signal);
      }
    }
    this.#sending = false;
  }
}

/**
 * Skips what was sent before now: it was meant for an earlier life of this tab.
 * Returns the number to poll after.
 */
export async function skipBacklog(route: Route): Promise<number> {
  return poll(route, 0, 0, async () => "stop");
}

/** Hands over every later message in order, one at a time, until the signal is aborted or the call is gone. */
export async function receive(route: Route, after: number, handle: (item: SignalItem) => Promise<void>): Promise<void> {
  await poll(route, after, POLL_WAIT_MS, async (items) => {
    for (const item of items) {
      if (route.signal.aborted) return "stop";
      await handle(item);
    }
    return "go_on";
  });
}

async function poll(
  route: Route,
  after: number,
  wait_ms: number,
  batch: (items: SignalItem[]) => Promise<"go_on" | "stop">,
): Promise<number> {
  const { api, call_id, leg, signal, onState } = route;
  let newest = after;
  let failures = 0;
  while (!signal.aborted) {
    let items: SignalItem[];
    try {
      ({ items } = await api.pollSignals(call_id, leg, newest, wait_ms, POLL_TIMEOUT_MS, signal));
    } catch (error) {
      if (signal.aborted) break;
      // 404: the call is gone. Trying again would not bring it back.
      if (error instanceof ApiError && !error.again) throw error;
      failures += 1;
      if (failures === 1) onState("lost");
      await pause(backoffMs(failures), signal);
      continue;
    }
    if (failures > 0) onState("back");
    failures = 0;
    // A message once handed over is never handed over again, whatever the server repeats.
    const fresh = items.filter((item) => item.seq > newest);
    newest = fresh.reduce((n, item) => Math.max(n, item.seq), newest);
    if ((await batch(fresh)) === "stop") break;
  }
  return newest;
}
