// A safety number, as digits in twelve groups and as a QR code. Empty until it is computed.

import { inGroups, safetyText } from "../sealing/safety.ts";
import { h } from "./dom.ts";
import { qr } from "./qr.ts";

export interface NumberView {
  root: HTMLElement;
  update(number: string | null): void;
}

export function safetyNumberView(): NumberView {
  const digits = h("ol", { class: "digits", "data-testid": "safety" });
  const code = h("div", { class: "code" });
  const wait = h("p", { class: "lead", role: "status" }, "Working it out…");
  let shown: string | null = null;
  return {
    root: h("div", { class: "number" }, wait, code, digits),
    update(number) {
      wait.hidden = number !== null;
      if (number === shown) return;
      shown = number;
      digits.replaceChildren(...inGroups(number ?? "").map((group) => h("li", {}, group)));
      code.replaceChildren(...(number === null ? [] : [qr(safetyText(number), "The safety number as a QR code")]));
    },
  };
}
