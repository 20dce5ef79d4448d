// Table of contents of the phone: joins the machine's shell, the view, the ring tone, the figures and the fault panel, and
// offers `window.phone`.

import { nowMs } from "../clock.ts";
import { DevApi } from "../dev-api.ts";
import { PageProbe, snapshotOf } from "../probe.ts";
import type { Snapshot } from "../tandem";
import { FaultsWatch } from "./faults.ts";
import { QUALITY_INTERVAL_MS } from "./limits.ts";
import { Phone } from "./phone.ts";
import { type Quality, quality } from "./quality.ts";
import { screenOf } from "./state.ts";
import { pendingOf } from "./told.ts";
import { RingTone } from "./tone.ts";
import { faultPanel } from "./view/faults.ts";
import type { Model } from "./view/screen.ts";
import { View } from "./view/view.ts";

const ACCOUNT = "tandem.phone.account";
const query = new URLSearchParams(location.search);
const root = document.getElementById("phone");
if (root === null) throw new Error("index.html has no #phone");

let measured: Quality | null = null;
let before: { pc: RTCPeerConnection; snapshot: Snapshot } | null = null;

const tone = new RingTone(document);
const phone = new Phone({
  changed: show,
  peerConnection: (pc) => {
    measured = null;
    if (pc === null) probe.stop();
    else if (query.has("probe")) probe.start(pc, document.createElement("video"));
  },
});
const probe = new PageProbe(() => ({ call_id: phone.state.call?.id ?? null, leg: null, events: [] }));
const view = new View(root, {
  happen: (event) => phone.happen(event),
  mute: (on) => phone.mute(on),
  camera: (on) => void phone.camera(on),
  alwaysRelay: (on) => {
    phone.always_relay = on;
  },
  signOut: () => {
    sessionStorage.removeItem(ACCOUNT);
    location.assign("/");
  },
  signInAgain: () => location.reload(),
  safety: (peer) => {
    let met: boolean | null = null;
    view.safety(peer, model(), () => met);
    void phone.meet(peer).then((there) => {
      met = there;
      show();
    });
  },
  compared: (peer, done) => phone.compared(peer, done),
  confirmIdentity: (peer) => phone.confirmIdentity(peer),
});

window.phone = {
  state: () => phone.snapshot(),
  safety: (peer) => phone.known(peer)?.safety ?? null,
  pending: () => pendingOf(phone.state),
  endorse: (device) => phone.happen({ t: "endorse", device }),
  confirmIdentity: (peer) => phone.confirmIdentity(peer),
  pc: () => phone.pc,
  events: () => phone.events.items,
  get config() {
    return phone.config;
  },
  probe,
};

function model(): Model {
  const { state, streams, history, always_relay } = phone;
  return { state, streams, history, always_relay, quality: measured, known: (peer) => phone.known(peer), now_ms: nowMs() };
}

function show(): void {
  const { state } = phone;
  if (state.account !== null) sessionStorage.setItem(ACCOUNT, state.account);
  tone.set(screenOf(state) === "incoming");
  view.show(model());
}

/** Renews timer and figures for as long as the page is open. */
async function renew(): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, QUALITY_INTERVAL_MS));
    const { pc } = phone;
    if (pc === undefined) {
      measured = null;
      before = null;
    } else {
      const snapshot = await snapshotOf(pc);
      measured = quality(before?.pc === pc ? before.snapshot : null, snapshot);
      before = { pc, snapshot };
    }
    show();
  }
}

/** In `tandem dev` only: elsewhere there is nobody who would kill processes for a page. */
async function offerFaults(beside: Element): Promise<void> {
  const panel = faultPanel({
    open: () => faults.open(),
    close: () => faults.close(),
    order: (name, order, away_ms) => void faults.order(name, order, away_ms),
  });
  const faults = new FaultsWatch({
    api: new DevApi((url, init) => fetch(url, init)),
    changed: (now) => panel.update(now),
    later: (work, ms) => {
      const timer = setTimeout(work, ms);
      return () => clearTimeout(timer);
    },
  });
  if (await faults.isThere()) beside.after(...panel.nodes);
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") phone.lookAtOwn();
});
window.addEventListener("online", () => phone.networkChanged());
if ("connection" in navigator && navigator.connection instanceof EventTarget) {
  navigator.connection.addEventListener("change", () => phone.networkChanged());
}

show();
const account = query.get("as") ?? sessionStorage.getItem(ACCOUNT);
if (account !== null && account !== "") phone.happen({ t: "sign_in", account });
void renew();
void offerFaults(root);
