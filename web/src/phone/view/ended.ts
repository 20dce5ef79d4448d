// Why a call is over, or why there was none.

import { endedWords } from "../words.ts";
import { avatar, button, h, write } from "./dom.ts";
import type { MakeScreen } from "./screen.ts";

/** Where calling again makes sense. */
const AGAIN: ReadonlySet<string> = new Set(["no-answer", "not-reached", "busy", "connection-lost", "server-away", "refused", "failed"]);

export const ended: MakeScreen = (model, { happen, signInAgain, signOut }) => {
  const over = model.state.ended;
  const cause = over?.cause ?? "failed";
  const words = over === null ? { title: "", text: "" } : endedWords(over);
  const back = button("home", "Back", "wide", () => happen({ t: "home" }));
  const take = button("take-over", "Take over", "primary wide", () => happen({ t: "take_over" }));
  const anew = button("sign-in-again", "Sign in again", "primary wide", signInAgain);
  const out = button("sign-out", "Sign out", "wide", signOut);
  const again = button("call-again", "Call again", "primary wide", () => {
    if (over?.peer != null) happen({ t: "dial", to: over.peer, media: over.media });
  });
  const face = over?.peer == null ? [] : [avatar(over.peer)];
  const wait = h("p", { class: "lead", "data-testid": "retry-after" });
  take.hidden = cause !== "elsewhere";
  anew.hidden = out.hidden = cause !== "removed";
  // There is nothing to go back to: this phone is nobody's.
  back.hidden = cause === "removed";
  again.hidden = over?.role !== "caller" || !AGAIN.has(cause) || cause === "elsewhere";
  const root = h(
    "main",
    { class: "stage", "data-cause": cause, tabindex: "-1" },
    h("div", { class: "who", role: "alert" }, ...face, h("h1", {}, words.title), h("p", { class: "lead" }, words.text)),
    wait,
    h("div", { class: "stack" }, take, anew, again, out, back),
  );
  return {
    root,
    // These come unasked, and what they offer cannot be taken back.
    first: cause === "elsewhere" || cause === "removed" ? root : back,
    update({ now_ms }) {
      const left_ms = over?.again_at_ms == null ? 0 : over.again_at_ms - now_ms;
      wait.hidden = left_ms <= 0;
      write(wait, `Try again in ${Math.ceil(left_ms / 1000)} s.`);
      again.disabled = left_ms > 0;
    },
  };
};
