// One phone: a tab that is signed in, as the tests see and work it.

import path from "node:path";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import type { Cause, PhoneSnapshot, Screen } from "tandem-web/phone";
import { pictures } from "./looks.ts";
import { until } from "./until.ts";

/** A screen comes at once, or after a call's set-up. */
const SCREEN_TIMEOUT_MS = 15_000;

export interface Media {
  audio_packets: number;
  audio_energy: number;
  frames: number;
  pair: string;
}

export class Phone {
  readonly name: string;
  readonly page: Page;
  readonly complaints: string[] = [];

  private constructor(name: string, page: Page) {
    this.name = name;
    this.page = page;
    page.on("pageerror", (error) => this.complaints.push(error.message));
  }

  /** A tab of its own profile (or of `context`), signed in as `account`; `first`: the account's first one, which lets it in. */
  static async open(
    browser: Browser,
    address: string,
    account: string,
    options: BrowserContextOptions & { context?: BrowserContext; first?: Phone } = {},
  ): Promise<Phone> {
    const { context: given, first, ...rest } = options;
    const context = given ?? (await browser.newContext({ viewport: { width: 1100, height: 760 }, ...rest }));
    const phone = new Phone(account, await context.newPage());
    await phone.page.goto(`${address}?as=${account}&probe`);
    if (first !== undefined) await first.letsIn(phone);
    await phone.shows("home");
    await phone.connected();
    return phone;
  }

  /** A tab that nobody has signed in to. */
  static async blank(context: BrowserContext, address: string): Promise<Phone> {
    const phone = new Phone("somebody", await context.newPage());
    await phone.page.goto(address);
    return phone;
  }

  state(): Promise<PhoneSnapshot> {
    return this.page.evaluate(() => window.phone.state());
  }

  /** Another device of the same account, after a look at the codes on both. */
  async letsIn(other: Phone): Promise<void> {
    const { device } = await other.shows("pending");
    const code = await other.page.evaluate(() => window.phone.pending().code);
    await until(`${this.name} is asked about the new device`, { timeout_ms: SCREEN_TIMEOUT_MS }, async () => {
      const { waiting } = await this.page.evaluate(() => window.phone.pending());
      return waiting.some((one) => one.device === device && one.code === code);
    });
    await this.page.click(`[data-device="${device}"] [data-testid="endorse"]`);
  }

  click(id: string): Promise<void> {
    return this.page.click(`[data-testid="${id}"]`);
  }

  async shows(screen: Screen, timeout_ms = SCREEN_TIMEOUT_MS): Promise<PhoneSnapshot> {
    return until(`${this.name} shows ${screen}`, { timeout_ms, every_ms: 20 }, async () => {
      const state = await this.state().catch(() => null);
      return state?.screen === screen && state;
    }).catch(async (error: Error) => {
      throw new Error(`${error.message}, but ${JSON.stringify(await this.state().catch(String))}`);
    });
  }

  /** The ended screen with this cause; also in the words of the page. */
  async ends(cause: Cause, timeout_ms = SCREEN_TIMEOUT_MS): Promise<void> {
    const state = await this.shows("ended", timeout_ms);
    if (state.ended !== cause) throw new Error(`${this.name} ended with ${state.ended}, not ${cause}`);
    await this.page.waitForSelector(`[data-cause="${cause}"]`);
  }

  async connected(): Promise<void> {
    await until(`${this.name} is connected`, { timeout_ms: SCREEN_TIMEOUT_MS }, async () => (await this.state()).connected);
  }

  async calls(account: string, how: "call-video" | "call-audio" = "call-video"): Promise<void> {
    await this.page.fill('[data-testid="callee"]', account);
    await this.click(how);
  }

  async home(): Promise<void> {
    const { screen } = await this.state();
    if (screen === "ended") await this.click("home");
    await this.shows("home");
  }

  media(): Promise<Media | null> {
    return this.page.evaluate(async () => {
      const pc = window.phone.pc();
      if (!pc) return null;
      const stats = [...(await pc.getStats()).values()] as (RTCStats & Record<string, unknown>)[];
      const inbound = (kind: string) => stats.find((s) => s.type === "inbound-rtp" && s["kind"] === kind);
      const transport = stats.find((s) => s.type === "transport");
      const pair = stats.find((s) => s.id === transport?.["selectedCandidatePairId"]);
      const end = (id: unknown) => String(stats.find((s) => s.id === id)?.["candidateType"] ?? "?");
      return {
        audio_packets: Number(inbound("audio")?.["packetsReceived"] ?? 0),
        audio_energy: Number(inbound("audio")?.["totalAudioEnergy"] ?? 0),
        frames: Number(inbound("video")?.["framesDecoded"] ?? 0),
        pair: pair ? `${end(pair["localCandidateId"])} <-> ${end(pair["remoteCandidateId"])}` : "none",
      };
    });
  }

  /** Sound (and with `video` picture) has come since now. */
  async talks(video = true): Promise<Media> {
    await this.shows("call");
    let first: Media | null = null;
    return until(`${this.name} hears and sees the other side`, { timeout_ms: 20_000, every_ms: 100 }, async () => {
      const now = await this.media();
      if (!now) return false;
      first ??= now;
      const heard = now.audio_packets >= first.audio_packets + 20 && now.audio_energy > first.audio_energy;
      return heard && (!video || now.frames >= first.frames + 10) && now;
    });
  }

  /** As the tab is now. For a screen as people see it: `pictures`. */
  picture(folder: string, name: string): Promise<unknown> {
    return this.page.screenshot({ path: path.join(folder, `${name}.png`) });
  }

  /** The screen on a desk and on phones; fails if something does not fit. */
  pictures(folder: string, name: string): Promise<void> {
    return pictures(this.page, folder, name);
  }

  /** The ICE and connection states that were left or reached since `at`. */
  iceEvents(at: number): Promise<string[]> {
    return this.page.evaluate((since: number) => {
      const events = window.phone.events().filter((event) => event.at >= since);
      return events.filter((event) => /ice|connection/i.test(event.name)).map((event) => `${event.name} ${event.detail}`);
    }, at);
  }

  now(): Promise<number> {
    return this.page.evaluate(() => performance.timeOrigin + performance.now());
  }

  close(): Promise<void> {
    return this.page.context().close();
  }
}
