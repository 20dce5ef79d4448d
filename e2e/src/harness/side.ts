// One side of a call: a page in some browser, as the tests see it, whichever tool drives it.

import type { KindCounters, SideReport, Snapshot } from "tandem-web/tandem";
import { until } from "./until.ts";

/** What of a driver's page is used; Playwright's and Puppeteer's both have it. */
export interface Page {
  evaluate<T>(fn: () => T | Promise<T>): Promise<T>;
  evaluate<T, A>(fn: (arg: A) => T | Promise<T>, arg: A): Promise<T>;
  click(selector: string): Promise<void>;
}

/** From the click to media: a camera, a join, an allocation, ICE and DTLS, twice. */
const CONNECT_TIMEOUT_MS = 20_000;

export abstract class Side {
  readonly name: string;
  readonly page: Page;
  /** What the page or the browser complained about: uncaught errors, console errors, blocked content. */
  readonly complaints: string[] = [];

  constructor(name: string, page: Page) {
    this.name = name;
    this.page = page;
  }

  /** A picture of the whole page, as PNG. */
  abstract screenshot(file: string): Promise<void>;

  abstract close(): Promise<void>;

  connect(): Promise<void> {
    return this.page.click("#connect");
  }

  /** A number that the page shows must be read where it is measured: in the page. */
  async snapshot(): Promise<Snapshot> {
    const snapshot = await this.page.evaluate(() => window.tandem.snapshot());
    if (snapshot === null) throw new Error(`${this.name} has no peer connection`);
    return snapshot;
  }

  mark(): Promise<number> {
    return this.page.evaluate(() => window.tandem.probe.mark());
  }

  report(since_ms: number): Promise<SideReport> {
    return this.page.evaluate((since: number) => window.tandem.probe.report(since), since_ms);
  }

  text(id: string): Promise<string> {
    return this.page.evaluate((name: string) => document.getElementById(name)?.textContent ?? "", id);
  }

  /** Waits until `text` of the element matches. */
  shows(id: string, pattern: RegExp, timeout_ms = CONNECT_TIMEOUT_MS): Promise<string> {
    return until(`${this.name} shows ${pattern} in #${id}`, { timeout_ms }, async () => {
      const text = await this.text(id);
      return pattern.test(text) && text;
    });
  }

  /** Waits until the call is connected and sound and picture have come for a while. */
  talks(frames = 20): Promise<Snapshot> {
    return until(`${this.name} hears and sees the other side`, { timeout_ms: CONNECT_TIMEOUT_MS }, async () => {
      const now = await this.page.evaluate(() => window.tandem.snapshot());
      const { audio, video } = now ?? {};
      const running = now?.connection_state === "connected" && audio != null && video != null;
      return running && video.frames_decoded >= frames && audio.audio_energy > 0 && now;
    });
  }

  /** Did sound, picture and packets of both kinds rise above `before` by enough that it is no leftover? */
  async roseAbove(before: Snapshot): Promise<Snapshot | false> {
    const now = await this.snapshot();
    const rose =
      grew(before.video, now.video, "frames_decoded", 10) &&
      grew(before.audio, now.audio, "audio_energy", 1e-9) &&
      grew(before.audio, now.audio, "packets_received", 25) &&
      grew(before.video, now.video, "packets_received", 25);
    return rose && now;
  }
}

function grew(
  before: KindCounters | null,
  now: KindCounters | null,
  counter: "frames_decoded" | "audio_energy" | "packets_received",
  by: number,
): boolean {
  return before !== null && now !== null && now[counter] >= before[counter] + by;
}
