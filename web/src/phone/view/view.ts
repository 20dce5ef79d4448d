// Shows the screen that the state asks for: builds it when it is another one, else writes what has changed.

import type { Screen } from "../../phone";
import { screenOf, type State } from "../state.ts";
import { inCall } from "./call.ts";
import { ended } from "./ended.ts";
import { home } from "./home.ts";
import { incoming, media, outgoing } from "./ringing.ts";
import { type SafetyDialog, safetyDialog } from "./safety.ts";
import type { Actions, MakeScreen, Model, ScreenView } from "./screen.ts";
import { signIn } from "./sign-in.ts";
import { identity, pending } from "./trusting.ts";

const SCREENS: Record<Screen, MakeScreen> = {
  "sign-in": signIn,
  pending,
  home,
  outgoing,
  incoming,
  media,
  identity,
  call: inCall,
  ended,
};

export class View {
  readonly #root: HTMLElement;
  readonly #actions: Actions;
  #shown: { key: string; view: ScreenView } | null = null;
  #dialog: SafetyDialog | null = null;

  constructor(root: HTMLElement, actions: Actions) {
    this.#root = root;
    this.#actions = actions;
  }

  show(model: Model): void {
    const screen = screenOf(model.state);
    const key = keyOf(screen, model.state);
    if (this.#shown?.key !== key) {
      // Who rings, or why a call is over, is not to stand behind it.
      this.#dialog?.root.close();
      const view = SCREENS[screen](model, this.#actions);
      this.#shown = { key, view };
      this.#root.dataset["screen"] = screen;
      const cause = view.root.dataset["cause"];
      if (cause === undefined) delete this.#root.dataset["cause"];
      else this.#root.dataset["cause"] = cause;
      this.#root.replaceChildren(view.root);
      view.update(model);
      view.first.focus({ preventScroll: true });
    } else {
      this.#shown.view.update(model);
    }
    this.#dialog?.update(model);
    document.title = title(screen, model);
  }

  /** Over the screen, until it is closed or another screen comes. */
  safety(peer: string, model: Model, met: () => boolean | null): void {
    this.#dialog?.root.close();
    const dialog = safetyDialog(peer, this.#actions, met);
    this.#dialog = dialog;
    dialog.root.addEventListener("close", () => {
      dialog.root.remove();
      if (this.#dialog === dialog) this.#dialog = null;
    });
    dialog.update(model);
    this.#root.after(dialog.root);
    dialog.root.showModal();
  }
}

/** What a screen is built for: another call is another screen, even of the same kind. */
function keyOf(screen: Screen, { call, ended: over }: State): string {
  const of = call ?? over;
  if (screen === "home" || screen === "pending") return screen;
  return [screen, of?.attempt ?? "", call?.problem ?? over?.cause ?? ""].join(" ");
}

function title(screen: Screen, { state: { call }, now_ms }: Model): string {
  if (screen !== "incoming") return call === null || screen === "home" ? "Tandem" : `${call.peer} – Tandem`;
  return Math.floor(now_ms / 1000) % 2 === 0 ? `${call?.peer ?? ""} calls` : "Incoming call";
}
