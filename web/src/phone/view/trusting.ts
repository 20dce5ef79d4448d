// Screens that ask whom to trust: a peer with another identity, and this device while it waits to be let in. And the card
// on the home screen by which the account's first device lets in another.

import { inGroups } from "../sealing/safety.ts";
import type { Waiting } from "../state.ts";
import { changedWords, pendingWords } from "../words.ts";
import { avatar, button, h, write } from "./dom.ts";
import { safetyNumberView } from "./number.ts";
import type { Actions, MakeScreen } from "./screen.ts";

export const identity: MakeScreen = (model, { happen }) => {
  const { call } = model.state;
  const peer = call?.peer ?? "";
  const incoming = call?.offer != null;
  const words = changedWords(peer, incoming);
  const number = safetyNumberView();
  const confirm = button("confirm-identity", "It is the same person", "wide", () => happen({ t: "confirm_identity" }));
  const back = button("home", incoming ? "Decline" : "Do not call", "primary wide", () => happen({ t: "home" }));
  const root = h(
    "main",
    { class: "stage", tabindex: "-1" },
    h(
      "div",
      { class: "who", role: "alert" },
      h("h1", {}, words.title),
      h("p", { class: "lead" }, words.text),
      number.root,
    ),
    h("div", { class: "stack" }, back, confirm),
  );
  return { root, first: root, update: ({ known }) => number.update(known(peer)?.safety ?? null) };
};

export const pending: MakeScreen = (model, { happen, signOut }) => {
  const { account } = model.state;
  const lead = h("p", { class: "lead" });
  const on = h("p", { class: "lead", role: "status" });
  const confirm = button("confirm-own", "Yes, I let it in myself", "wide", () => happen({ t: "confirm_own" }));
  const code = h("strong", { class: "join-code", "data-testid": "join-code" });
  const device = h("small", { "data-testid": "device" });
  const root = h(
    "main",
    { class: "stage", tabindex: "-1" },
    h(
      "div",
      { class: "who" },
      avatar(account ?? ""),
      h("h1", {}, "Waiting to be let in"),
      lead,
      code,
      device,
      on,
    ),
    h("div", { class: "stack" }, confirm, button("sign-out", "Not you?", "wide", signOut)),
  );
  return {
    root,
    first: root,
    update({ state }) {
      write(code, inGroups(state.join_code ?? "").join(" "));
      write(device, state.device ?? "");
      confirm.hidden = !state.let_in;
      const { text, status } = pendingWords(account ?? "", state.let_in);
      write(lead, text);
      write(on, status);
    },
  };
};

export function asking({ device, code, hosted }: Waiting, { happen }: Actions): HTMLElement {
  const held = hosted ? ["An operator holds its keys, and can listen."] : [];
  return h(
    "section",
    { class: "card", role: "alert", "data-testid": "asking", "data-device": device },
    h("h2", {}, "A new device of yours wants to join"),
    h("p", {}, "Let it in only if it is in your hands and shows the same code."),
    h("strong", { class: "join-code" }, inGroups(code).join(" ")),
    h("small", {}, device),
    ...held.map((text) => h("p", { class: "problem" }, text)),
    h(
      "div",
      { class: "pair" },
      button("endorse", "Let it in", "primary", () => happen({ t: "endorse", device })),
      button("refuse-device", "Not mine", "", () => happen({ t: "refuse_device", device })),
    ),
  );
}
