// Table of contents of the page: joins the buttons, the call, the probe and the view, and offers `window.tandem`.

import { Call } from "./call.ts";
import { NoCamera, openCamera } from "./camera.ts";
import { Capped } from "./capped.ts";
import { nowMs } from "./clock.ts";
import { ApiError, DevApi, type Process } from "./dev-api.ts";
import { EVENTS_MAX, FIGURES_INTERVAL_HASTY_MS, FIGURES_INTERVAL_MS, KILL_PATIENCE_MS } from "./limits.ts";
import { PageProbe, snapshotOf } from "./probe.ts";
import { claimByLock, session } from "./session.ts";
import { rates } from "./stats.ts";
import type { Snapshot, TandemEvent, TandemEventType } from "./tandem";
import { type Shown, View } from "./view.ts";

const view = new View();
const api = new DevApi((url, init) => fetch(url, init));
const events = new Capped<TandemEvent>(EVENTS_MAX);
const probe = new PageProbe(() => ({
  call_id: call?.joined.call_id ?? null,
  leg: call?.joined.leg ?? null,
  events: events.items,
}));

let call: Call | null = null;
let camera: MediaStream | null = null;
/** Counts the presses on Connect and Hang up, so that an answer to an earlier press changes nothing. */
let press = 0;
let round = 0;
let gaps_since_ms: number | null = null;
let before: Snapshot | null = null;

window.tandem = {
  get pc() {
    return call?.pc ?? null;
  },
  get call_id() {
    return call?.joined.call_id ?? null;
  },
  get leg() {
    return call?.joined.leg ?? null;
  },
  get events() {
    return events.items;
  },
  probe,
  snapshot: async () => (call?.pc == null ? null : snapshotOf(call.pc)),
};

function log(type: TandemEventType, detail: string): void {
  const event = { at_ms: nowMs(), round, type, detail };
  events.push(event);
  view.event(event);
}

function show(state: Shown): void {
  view.show(state);
  if (state === "connected" && gaps_since_ms === null) gaps_since_ms = nowMs();
  if (state === "peer_left" || state === "call_gone" || state === "hung_up") {
    probe.stop();
    view.remote.srcObject = null;
  }
}

async function connect(): Promise<void> {
  const mine = ++press;
  release();
  view.message(null);
  try {
    show("asking");
    const stream = await openCamera();
    if (mine !== press) return stop(stream);
    camera = stream;
    view.local.srcObject = stream;
    show("joining");
    const tab = await session({ storage: sessionStorage, uuid: () => crypto.randomUUID(), claim: claimByLock });
    const joined = await api.join(tab);
    if (mine !== press) return;
    const started = new Call(api, joined, stream, {
      state: (state) => {
        if (mine === press) show(state);
      },
      peerConnection: (pc) => {
        round += 1;
        gaps_since_ms = null;
        before = null;
        probe.start(pc, view.remote);
      },
      remoteStream: (remote) => {
        view.remote.srcObject = remote;
      },
      log,
    });
    call = started;
    view.call(joined.call_id, joined.leg);
    log("page", `joined as leg ${joined.leg}`);
    await started.run();
  } catch (error) {
    if (mine !== press) return;
    release();
    show("idle");
    if (error instanceof NoCamera) view.message(error.message);
    else if (error instanceof ApiError) view.message(`${error.message}. Is tandem dev running? Press Connect to try again.`);
    else throw error;
  }
}

/** Ends the call, if any, and gives the camera back. */
function release(): void {
  call?.end();
  call = null;
  probe.stop();
  if (camera !== null) stop(camera);
  camera = null;
  view.local.srcObject = null;
  view.remote.srcObject = null;
  view.call(null, null);
  gaps_since_ms = null;
  before = null;
}

function stop(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}

function hangUp(): void {
  press += 1;
  release();
  show("hung_up");
  log("page", "hung up");
}

async function killRelay(): Promise<void> {
  view.killRelay.disabled = true;
  try {
    if (gaps_since_ms !== null) gaps_since_ms = nowMs();
    const { pid } = await api.kill("relay");
    log("page", `killed the relay, pid ${pid ?? "none"}`);
    view.killNote(`Killed the relay, pid ${pid ?? "none"}. Waiting for the next one.`);
    const next = await relayAfter(pid);
    if (next === null) {
      log("page", "no relay came back");
      view.killNote(`Pid ${pid ?? "none"} was killed, and no relay has come back yet.`);
      return;
    }
    log("page", `the relay runs again, pid ${next.pid}, after ${next.outage_ms ?? 0} ms`);
    view.killNote(`Pid ${pid ?? "none"} was killed; pid ${next.pid} took over after ${next.outage_ms ?? 0} ms.`);
  } catch (error) {
    view.killNote(`The relay could not be killed: ${error instanceof ApiError ? error.message : String(error)}.`);
  } finally {
    view.killRelay.disabled = false;
  }
}

/** The relay that is ready and is not the one that was killed; the table is renewed on the way. Null: none came. */
async function relayAfter(pid: number | null): Promise<Process | null> {
  for (const until_ms = nowMs() + KILL_PATIENCE_MS; nowMs() < until_ms; ) {
    const items = await renewProcesses();
    const relay = items?.find((p) => p.name === "relay");
    if (relay?.state === "ready" && relay.pid !== pid) return relay;
    await new Promise((resolve) => setTimeout(resolve, FIGURES_INTERVAL_HASTY_MS));
  }
  return null;
}

async function renewProcesses(): Promise<Process[] | null> {
  try {
    const { items } = await api.processes();
    view.processes(items);
    return items;
  } catch (error) {
    // 404: not a `tandem dev`, so nothing to show. No answer: keep the last table and look again.
    if (error instanceof ApiError && error.status === 404) view.processes(null);
    return null;
  }
}

async function renewFigures(): Promise<void> {
  const pc = call?.pc ?? null;
  const now = pc === null ? null : await snapshotOf(pc);
  if (pc !== (call?.pc ?? null)) return;
  const speed = now === null || before === null ? null : rates(before, now);
  before = now;
  view.figures(now, speed, gaps_since_ms === null ? null : probe.report(gaps_since_ms));
}

/** Renews the figures and the table for as long as the page is open; the next round starts when this one is done. */
async function renew(): Promise<void> {
  for (;;) {
    await Promise.allSettled([renewFigures(), renewProcesses()]);
    await new Promise((resolve) => setTimeout(resolve, FIGURES_INTERVAL_MS));
  }
}

view.connect.addEventListener("click", () => void connect());
view.hangUp.addEventListener("click", hangUp);
view.killRelay.addEventListener("click", () => void killRelay());
view.sound.addEventListener("change", () => {
  view.remote.muted = !view.sound.checked;
});
// A page that goes away says so; one that comes back from the browser's cache starts afresh.
window.addEventListener("pagehide", () => {
  if (call !== null) hangUp();
});

show("idle");
void renew();
