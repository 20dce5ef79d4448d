// A call that is not yet one: outgoing, incoming, and the question what to do without camera or microphone.

import { ringsNowhere } from "../state.ts";
import { mediaWords, outgoingWords } from "../words.ts";
import { avatar, button, h, write } from "./dom.ts";
import { marks } from "./marks.ts";
import type { MakeScreen } from "./screen.ts";

export const outgoing: MakeScreen = (model, { happen }) => {
  const peer = model.state.call?.peer ?? "";
  const status = h("p", { class: "lead", role: "status", "data-testid": "status" });
  const marked = marks(peer, false);
  const cancel = button("cancel", "Cancel", "danger round", () => happen({ t: "hang_up" }));
  const root = h(
    "main",
    { class: "stage", tabindex: "-1" },
    h("div", { class: "who" }, h("div", { class: "pulse" }, avatar(peer)), h("h1", {}, peer), status, marked.root),
    h("div", { class: "bar" }, cancel),
  );
  return {
    root,
    first: root,
    update(now) {
      const { call, socket } = now.state;
      marked.update(now);
      const there = socket === "up";
      const text = outgoingWords(peer, call?.phase === "ringing", there && ringsNowhere(call, now.now_ms));
      write(status, there ? text : `${text} Reconnecting to the server.`);
    },
  };
};

export const incoming: MakeScreen = (model, { happen }) => {
  const call = model.state.call;
  const peer = call?.peer ?? "";
  const video = call?.media === "video";
  const accept = button("accept", "Accept", "good round", () => happen({ t: "accept", camera: true }));
  const quiet = button("accept-audio", "Accept without camera", "round", () => happen({ t: "accept", camera: false }));
  const decline = button("decline", "Decline", "danger round", () => happen({ t: "decline" }));
  const marked = marks(peer, true);
  quiet.hidden = !video;
  const root = h(
    "main",
    { class: "stage", tabindex: "-1" },
    h(
      "div",
      { class: "who", role: "alert" },
      h("div", { class: "pulse" }, avatar(peer)),
      h("h1", {}, peer),
      h("p", { class: "lead", "data-testid": "status" }, video ? "Incoming video call" : "Incoming audio call"),
      marked.root,
    ),
    h("div", { class: "bar" }, decline, quiet, accept),
  );
  return { root, first: root, update: (now) => marked.update(now) };
};

export const media: MakeScreen = (model, { happen }) => {
  const { call } = model.state;
  const problem = call?.problem ?? "camera";
  const words = mediaWords(problem, call?.peer ?? "");
  const text = problem === "camera" ? "Go on with audio only" : "Go on, listen only";
  const go = button("go-on", text, "primary wide", () => happen({ t: "go_on" }));
  const back = button("home", call?.offer == null ? "Give up" : "Decline", "wide", () => happen({ t: "home" }));
  return {
    root: h(
      "main",
      { class: "stage", "data-cause": problem },
      h("div", { class: "who", role: "alert" }, h("h1", {}, words.title), h("p", { class: "lead" }, words.text)),
      h("div", { class: "stack" }, go, back),
    ),
    first: go,
    update: () => undefined,
  };
};
