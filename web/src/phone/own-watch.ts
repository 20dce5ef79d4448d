// Asks for this account's own devices: while somebody may look at what they say, on the home screen and while this device waits
// to be let in, and whenever it is told to. Decides when; what is asked is own.ts.

import { nowMs } from "../clock.ts";
import type { Screen } from "../phone";
import { OTHERS_LOOK_MS, OWN_DEVICES_MS, OWN_LOOK_TICK_MS, PENDING_MS, PREKEY_LOOK_MS } from "./limits.ts";
import type { OwnDevices } from "./own.ts";
import { failureOf } from "./requests.ts";
import type { SignedIn } from "./signing-in.ts";

export interface WatchEvents {
  screen(): Screen;
  looked(own: OwnDevices): void;
  log(name: string, detail: string): void;
}

export class OwnWatch {
  readonly #signed_in: SignedIn;
  readonly #events: WatchEvents;
  #renewed_ms = nowMs();
  /** When it asked last. */
  #looked_ms = Number.NEGATIVE_INFINITY;
  #looking = false;
  #again = false;
  #answered = false;
  /** Is this the device that the others wait for? As long as it is not known, it may be. */
  #first = true;

  constructor(signed_in: SignedIn, events: WatchEvents) {
    this.#signed_in = signed_in;
    this.#events = events;
  }

  /** For as long as the page is open. */
  async run(): Promise<void> {
    for (;;) {
      if (this.#watched() && nowMs() - this.#looked_ms >= this.#pauseMs()) await this.look();
      await new Promise((resolve) => setTimeout(resolve, OWN_LOOK_TICK_MS));
    }
  }

  /** Now: the page is looked at again, the device is connected again, or something was done. */
  async look(): Promise<void> {
    this.#again = true;
    if (this.#looking) return;
    this.#looking = true;
    while (this.#again) {
      this.#again = false;
      await this.#once();
    }
    this.#looking = false;
  }

  async #once(): Promise<void> {
    this.#looked_ms = nowMs();
    try {
      const own = await this.#signed_in.own.look();
      this.#answered = true;
      this.#first = own.first;
      this.#events.looked(own);
      // One that was removed does not register itself again: that is for its person to say.
      if (own.registered) await this.#renew();
    } catch (error) {
      this.#answered = false;
      this.#events.log("own devices", failureOf(error).code);
    }
  }

  #pauseMs(): number {
    if (this.#events.screen() === "pending") return PENDING_MS;
    return this.#first || !this.#answered ? OWN_DEVICES_MS : OTHERS_LOOK_MS;
  }

  #watched(): boolean {
    const screen = this.#events.screen();
    // A device that waits goes on by itself, whether its tab is looked at or not.
    return screen === "pending" || (screen === "home" && document.visibilityState === "visible");
  }

  async #renew(): Promise<void> {
    if (nowMs() - this.#renewed_ms < PREKEY_LOOK_MS) return;
    if (await this.#signed_in.sealer.renew()) await this.#signed_in.register();
    this.#renewed_ms = nowMs();
  }
}
