// What stands beside a peer's name, before and during a call: that an operator holds keys, that a device is new.

import { noticeWords } from "../words.ts";
import { h } from "./dom.ts";
import type { Model } from "./screen.ts";

export interface Marks {
  root: HTMLElement;
  update(model: Model): void;
}

/** `in_call`: only the device that is in the call counts as held by an operator. */
export function marks(peer: string, in_call: boolean): Marks {
  const root = h("ul", { class: "marks", role: "status", "data-testid": "marks" });
  let shown = "";
  return {
    root,
    update({ known, state }) {
      const trust = known(peer);
      const device = in_call ? state.call?.peer_device : null;
      const hosted = (trust?.hosted ?? []).filter((one) => device == null || one === device);
      const words = noticeWords(peer, { fresh: trust?.fresh ?? [], hosted });
      root.hidden = words.length === 0;
      root.dataset["custody"] = hosted.length > 0 ? "hosted" : "device";
      const key = words.join("\n");
      if (key === shown) return;
      shown = key;
      root.replaceChildren(...words.map((text) => h("li", {}, text)));
    },
  };
}
