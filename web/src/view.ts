// What is on the page: finds the elements, writes texts into them. It decides nothing about calls.

import type { CallState } from "./call.ts";
import type { Process } from "./dev-api.ts";
import { clock, gap, ms, NONE, rate, share } from "./format.ts";
import { EVENT_LINES_MAX } from "./limits.ts";
import { lossIn, type Rates } from "./stats.ts";
import type { SideReport, Snapshot, TandemEvent } from "./tandem";

export type Shown = CallState | "idle" | "asking" | "joining" | "hung_up";

type Tone = "calm" | "good" | "warn" | "bad";

const STATUS: Record<Shown, { text: string; tone: Tone; running: boolean }> = {
  idle: { text: "Not connected", tone: "calm", running: false },
  asking: { text: "Asking for camera and microphone", tone: "calm", running: true },
  joining: { text: "Joining the demo call", tone: "calm", running: true },
  waiting: { text: "Waiting for the other tab", tone: "warn", running: true },
  connecting: { text: "Connecting", tone: "warn", running: true },
  connected: { text: "Connected", tone: "good", running: true },
  interrupted: { text: "Interrupted", tone: "warn", running: true },
  failed: { text: "Connection failed", tone: "bad", running: true },
  peer_left: { text: "The other side left", tone: "warn", running: true },
  call_gone: { text: "The call is over", tone: "calm", running: false },
  hung_up: { text: "Hung up", tone: "calm", running: false },
};

export class View {
  readonly connect = element("connect", HTMLButtonElement);
  readonly hangUp = element("hang-up", HTMLButtonElement);
  readonly killRelay = element("kill-relay", HTMLButtonElement);
  readonly sound = element("sound", HTMLInputElement);
  readonly remote = element("remote", HTMLVideoElement);
  readonly local = element("local", HTMLVideoElement);
  readonly #status = element("status", HTMLElement);
  readonly #message = element("message", HTMLElement);
  readonly #events = element("events", HTMLElement);
  readonly #processesCard = element("processes-card", HTMLElement);
  readonly #processes = element("processes", HTMLElement);

  /** Shows the state; a failed call may be connected again without hanging up first. */
  show(state: Shown): void {
    const { text, tone, running } = STATUS[state];
    if (this.#status.textContent !== text) this.#status.textContent = text;
    this.#status.dataset["tone"] = tone;
    document.body.dataset["state"] = state;
    const focused = document.activeElement;
    this.connect.disabled = running && state !== "failed";
    this.connect.textContent = state === "idle" ? "Connect" : "Connect again";
    this.hangUp.disabled = !running;
    // A disabled button loses the focus, and with it the place of someone on a keyboard.
    if (focused === this.connect && this.connect.disabled) this.hangUp.focus();
    if (focused === this.hangUp && this.hangUp.disabled) this.connect.focus();
  }

  message(text: string | null): void {
    this.#message.textContent = text ?? "";
    this.#message.hidden = text === null;
  }

  call(call_id: string | null, leg: number | null): void {
    write("call", call_id === null ? NONE : `${call_id}, leg ${leg ?? NONE}`);
    write("local-caption", leg === null ? "You" : `You (leg ${leg})`);
  }

  figures(now: Snapshot | null, rates: Rates | null, gaps: SideReport | null): void {
    this.#pair(now?.pair ?? NONE);
    write("ice", now?.ice_connection_state ?? NONE);
    write("connection", now?.connection_state ?? NONE);
    write("rtt", ms(now?.rtt_ms ?? null));
    write("frames", now?.video == null ? NONE : now.video.frames_decoded.toLocaleString("en"));
    write("rate-in", rate(rates?.in_bps ?? null));
    write("rate-out", rate(rates?.out_bps ?? null));
    if (now === null) {
      write("loss-in", NONE);
    } else {
      const loss = lossIn(now);
      write("loss-in", `${share(loss.share)} (${loss.lost} of ${loss.of.toLocaleString("en")})`);
    }
    write("loss-out", share(now?.loss_out ?? null));
    write("gap-audio", gap(gaps?.audio.longest ?? null));
    write("gap-video", gap(gaps?.video.longest ?? null));
  }

  /** Each end stays on one line; a narrow screen breaks between them. */
  #pair(text: string): void {
    const target = element("pair", HTMLElement);
    if (target.textContent === text) return;
    const [local, remote] = text.split(" <-> ");
    const end = (part: string): HTMLSpanElement => {
      const span = document.createElement("span");
      span.className = "end";
      span.textContent = part;
      return span;
    };
    if (local === undefined || remote === undefined) target.textContent = text;
    else target.replaceChildren(end(`${local} <->`), " ", end(remote));
  }

  event(event: TandemEvent): void {
    const line = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = new Date(event.at_ms).toISOString();
    time.textContent = clock(event.at_ms);
    const text = document.createElement("span");
    text.textContent = `${EVENT_NAMES[event.type]}: ${event.detail}`;
    line.append(time, text);
    const atEnd = this.#events.scrollHeight - this.#events.scrollTop - this.#events.clientHeight < 8;
    this.#events.append(line);
    while (this.#events.childElementCount > EVENT_LINES_MAX) this.#events.firstElementChild?.remove();
    // Follow the newest line, unless someone scrolled up to read.
    if (atEnd) this.#events.scrollTop = this.#events.scrollHeight;
  }

  /** Null hides the table: this server has no processes to show. */
  processes(items: readonly Process[] | null): void {
    this.#processesCard.hidden = items === null;
    if (items === null) return;
    const rows = items.map((p) => {
      const row = document.createElement("tr");
      row.dataset["name"] = p.name;
      row.append(
        cell(p.name),
        cell(p.pid === null ? NONE : String(p.pid), "num"),
        cell(p.state),
        cell(String(p.starts), "num"),
        cell(ms(p.outage_ms), "num"),
      );
      return row;
    });
    this.#processes.replaceChildren(...rows);
  }

  killNote(text: string): void {
    write("kill-note", text);
  }
}

const EVENT_NAMES: Record<TandemEvent["type"], string> = {
  connectionstatechange: "Connection",
  iceconnectionstatechange: "ICE",
  icegatheringstatechange: "Gathering",
  signalingstatechange: "Offer/answer",
  selectedcandidatepairchange: "Pair",
  icecandidateerror: "Candidate error",
  negotiation: "Negotiation",
  signaling: "Signaling",
  page: "Page",
};

function cell(text: string, className = ""): HTMLTableCellElement {
  const td = document.createElement("td");
  td.textContent = text;
  td.className = className;
  return td;
}

/** Unchanged text is left alone, so that a screen reader and a selection are not disturbed each second. */
function write(id: string, text: string): void {
  const target = element(id, HTMLElement);
  if (target.textContent !== text) target.textContent = text;
}

function element<T extends HTMLElement>(id: string, type: abstract new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`diagnostic.html has no ${type.name} #${id}`);
  return found;
}
