// The safety number of this account and a peer, over whatever screen is there: a call goes on behind it.

import { button, h, write } from "./dom.ts";
import { safetyNumberView } from "./number.ts";
import type { Actions, Model } from "./screen.ts";

export interface SafetyDialog {
  root: HTMLDialogElement;
  update(model: Model): void;
}

/** `met`: whether the peer could be asked for; null while it is being asked. */
export function safetyDialog(peer: string, actions: Actions, met: () => boolean | null): SafetyDialog {
  const number = safetyNumberView();
  const lead = h("p", { class: "lead", "data-testid": "safety-text" });
  const mark = h("input", { type: "checkbox", id: "compared", role: "switch", "data-testid": "compared" });
  const marking = h(
    "label",
    { class: "switch", for: "compared" },
    h("span", {}, "Mark as compared", h("small", {}, "The same number stands on both phones")),
    mark,
  );
  const confirm = button("confirm-identity", "Take the new identity", "primary wide", () => actions.confirmIdentity(peer));
  const close = button("safety-close", "Close", "wide", () => root.close());
  const root = h(
    "dialog",
    { class: "safety", "aria-labelledby": "safety-of", "data-testid": "safety-dialog" },
    h("h2", { id: "safety-of" }, `Safety number with ${peer}`),
    lead,
    number.root,
    marking,
    h("div", { class: "stack" }, confirm, close),
  );
  mark.addEventListener("change", () => actions.compared(peer, mark.checked));
  return {
    root,
    update(model) {
      const known = model.known(peer);
      number.update(known?.safety ?? null);
      number.root.hidden = known === null;
      marking.hidden = known?.safety == null || known.changed;
      mark.checked = known?.compared ?? false;
      confirm.hidden = known?.changed !== true;
      write(lead, text(peer, known?.changed ?? null, met()));
    },
  };
}

function text(peer: string, changed: boolean | null, met: boolean | null): string {
  if (changed === true) return `${peer} has another identity now. This is the new number; ask ${peer} in another way whether it is theirs.`;
  if (changed === false) return `Read it to each other, or scan it. The same on both phones: nobody is in between.`;
  return met === false ? `There is no number yet: ${peer} has no device that can be vouched for.` : `Asking for ${peer}…`;
}
