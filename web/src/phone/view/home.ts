// Whom to call, and what calls there were.

import type { HistoryEntry } from "../state.ts";
import { HISTORY_WORDS, span } from "../words.ts";
import { avatar, button, h, write } from "./dom.ts";
import type { MakeScreen, Model } from "./screen.ts";
import { asking } from "./trusting.ts";

export const home: MakeScreen = (model, actions) => {
  const { happen, alwaysRelay, signOut, safety } = actions;
  const { account } = model.state;
  const callee = h("input", {
    id: "callee",
    "data-testid": "callee",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    placeholder: account === "bob" ? "alice" : "bob",
    value: model.history[0]?.peer ?? "",
  });
  const dial = (media: "audio" | "video"): void => {
    const to = callee.value.trim();
    if (to === "") callee.focus();
    else happen({ t: "dial", to, media });
  };
  const video = h("button", { type: "submit", class: "primary", "data-testid": "call-video" }, "Video call");
  const audio = button("call-audio", "Audio call", "", () => dial("audio"));
  const number = button("safety-number", "Safety number", "text", () => {
    const peer = callee.value.trim();
    if (peer === "") callee.focus();
    else safety(peer);
  });
  const asks = h("div", { class: "asks" });
  const relay = h("input", { type: "checkbox", id: "always-relay", "data-testid": "always-relay", role: "switch" });
  relay.addEventListener("change", () => alwaysRelay(relay.checked));
  const link = h("p", { class: "pill", role: "status", "data-testid": "connection" });
  const take = button("take-over", "Use this phone here", "", () => happen({ t: "take_over" }));
  const list = h("ol", { class: "history", "data-testid": "history" });
  const form = h(
    "form",
    { class: "card" },
    h("label", { for: "callee" }, "Whom do you want to call?"),
    callee,
    h("div", { class: "pair" }, video, audio),
    number,
    h(
      "label",
      { class: "switch", for: "always-relay" },
      h("span", {}, "Always relay", h("small", {}, "The other side never sees your address")),
      relay,
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dial("video");
  });
  const root = h(
    "main",
    { class: "narrow" },
    h(
      "header",
      { class: "me" },
      avatar(account ?? ""),
      h("div", {}, h("h1", {}, account ?? ""), button("sign-out", "Not you?", "text", signOut)),
      link,
    ),
    take,
    asks,
    form,
    h("section", { class: "card", "aria-labelledby": "calls" }, h("h2", { id: "calls" }, "Calls"), list),
    h("p", { class: "foot" }, h("a", { href: "/diagnostic.html", "data-testid": "diagnostic" }, "Diagnostic call")),
  );
  let shown = "";
  let asked = "[]";
  return {
    root,
    first: callee,
    update(now) {
      const { text, tone } = connection(now);
      write(link, text);
      link.dataset["tone"] = tone;
      take.hidden = now.state.socket !== "elsewhere";
      relay.checked = now.always_relay;
      const waiting = JSON.stringify(now.state.waiting);
      if (waiting !== asked) asks.replaceChildren(...now.state.waiting.map((one) => asking(one, actions)));
      asked = waiting;
      asks.hidden = now.state.waiting.length === 0;
      const key = JSON.stringify(now.history);
      if (key === shown) return;
      shown = key;
      list.replaceChildren(...now.history.map((entry) => line(entry, () => {
        callee.value = entry.peer;
        callee.focus();
      })));
    },
  };
};

function connection({ state: { socket } }: Model): { text: string; tone: string } {
  switch (socket) {
    case "up":
      return { text: "Connected", tone: "good" };
    case "elsewhere":
      return { text: "In another tab", tone: "warn" };
    case "off":
    case "connecting":
      return { text: "Connecting…", tone: "warn" };
    case "down":
      return { text: "Reconnecting…", tone: "warn" };
  }
}

function line(entry: HistoryEntry, chosen: () => void): HTMLElement {
  const at = new Date(entry.at_ms);
  const words = [HISTORY_WORDS[entry.kind], entry.media === "video" ? "video" : "audio"];
  if (entry.duration_ms !== null) words.push(span(entry.duration_ms));
  const row = h(
    "button",
    { type: "button", class: "row" },
    h("strong", {}, entry.peer),
    h("span", {}, words.join(" · ")),
    h("time", { datetime: at.toISOString() }, at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })),
  );
  row.addEventListener("click", chosen);
  return h("li", { "data-kind": entry.kind }, row);
}
