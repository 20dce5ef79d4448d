// In call: the other side large, this side small, and how good the connection is.

import { ms, share } from "../../format.ts";
import { span } from "../words.ts";
import { avatar, button, h, write } from "./dom.ts";
import { marks } from "./marks.ts";
import type { MakeScreen, Model } from "./screen.ts";

export const inCall: MakeScreen = (model, { happen, mute, camera, safety }) => {
  const { call, account } = model.state;
  const peer = call?.peer ?? "";
  const video = call?.media === "video";
  const remote = h("video", { autoplay: "", playsinline: "", "data-testid": "remote", "aria-label": `Video of ${peer}` });
  const self = h("video", { autoplay: "", playsinline: "", "data-testid": "self", "aria-label": "Your own video" });
  self.muted = true;
  const placeholder = h("div", { class: "placeholder" }, avatar(peer));
  const status = h("p", { role: "status", "data-testid": "status" });
  const marked = marks(peer, true);
  const number = button("safety-number", "Safety number", "text", () => safety(peer));
  const timer = h("span", { class: "timer", "data-testid": "timer" });
  const grade = h("span", { class: "pill", "data-testid": "quality" });
  const pair = h("small", { "data-testid": "pair" });
  const muting = button("mute", "Mute", "round", () => mute(muting.getAttribute("aria-pressed") !== "true"));
  const filming = button("camera", "Camera off", "round", () => camera(filming.getAttribute("aria-pressed") === "true"));
  const hang = button("hang-up", "Hang up", "danger round", () => happen({ t: "hang_up" }));
  filming.hidden = !video;
  const root = h(
    "main",
    { class: "talk", tabindex: "-1" },
    remote,
    placeholder,
    h("div", { class: "top" }, h("div", {}, h("h1", {}, peer), status, number, marked.root), h("div", { class: "facts" }, timer, grade, pair)),
    h("figure", { class: "self" }, self, h("figcaption", {}, account ?? "")),
    h("div", { class: "bar" }, muting, filming, hang),
  );
  return {
    root,
    first: root,
    update(now) {
      const { streams, state, quality } = now;
      if (remote.srcObject !== streams.remote) remote.srcObject = streams.remote;
      if (self.srcObject !== streams.local) self.srcObject = streams.local;
      const live = state.call?.phase === "connected";
      root.dataset["phase"] = state.call?.phase ?? "";
      placeholder.hidden = video && streams.peer_sends.camera && streams.remote !== null && state.call?.connected_at_ms !== null;
      self.hidden = !streams.sends.camera;
      write(status, text(now, peer));
      marked.update(now);
      write(number, now.known(peer)?.compared === true ? "Safety number: compared" : "Safety number");
      write(timer, state.call?.connected_at_ms == null ? "" : span(now.now_ms - state.call.connected_at_ms));
      grade.hidden = !live || quality === null;
      grade.dataset["tone"] = quality === null ? "" : { good: "good", fair: "warn", poor: "bad" }[quality.grade];
      write(grade, quality === null ? "" : `${GRADES[quality.grade]} · ${ms(quality.rtt_ms)} · ${share(quality.loss)} lost`);
      write(pair, live ? (quality?.pair ?? "") : "");
      toggle(muting, !streams.sends.microphone, "Unmute", "Mute");
      muting.disabled = streams.local === null || streams.local.getAudioTracks().length === 0;
      toggle(filming, !streams.sends.camera, "Camera on", "Camera off");
    },
  };
};

const GRADES = { good: "Good", fair: "Fair", poor: "Poor" } as const;

function text({ state: { call, socket }, streams }: Model, peer: string): string {
  switch (call?.phase) {
    case "reconnecting":
      return "Reconnecting…";
    case "connected":
      if (socket === "down" || socket === "connecting") return "Connected. The server is away; the call goes on.";
      return streams.peer_sends.microphone ? "Connected" : `${peer} is muted`;
    default:
      return "Connecting…";
  }
}

function toggle(target: HTMLButtonElement, off: boolean, when_off: string, when_on: string): void {
  target.setAttribute("aria-pressed", String(off));
  write(target, off ? when_off : when_on);
}
