// Shows the screen that the state asks for: builds it when it is another one, else writes what has changed.

import type { Screen } from "../../phone";
import { screenOf, type State } from "../state.ts";
import { inCall } from "./call.ts";
import { ended } from "./ended.ts";
import { home } from "./home.ts";
import { incoming, media, outgoing } from "./ringing.ts";
import type { Actions, MakeScreen, Model, ScreenView } from "./screen.ts";
import { signIn } from "./sign-in.ts";

const SCREENS: Record<Screen, MakeScreen> = { "sign-in": signIn, home, outgoing, incoming, media, call: inCall, ended };

export class View {
  readonly #root: HTMLElement;
  readonly #actions: Actions;
  #shown: { key: string; view: ScreenView } | null = null;

  constructor(root: HTMLElement, actions: Actions) {
    this.#root = root;
    this.#actions = actions;
  }

  show(model: Model): void {
    const screen = screenOf(model.state);
    const key = keyOf(screen, model.state);
    if (this.#shown?.key !== key) {
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
    document.title = title(screen, model);
  }
}

/** What a screen is built for: another call is another screen, even of the same kind. */
function keyOf(screen: Screen, { call, ended: over }: State): string {
  const of = call ?? over;
  return [screen, of?.attempt ?? "", call?.problem ?? over?.cause ?? ""].join(" ");
}

function title(screen: Screen, { state: { call }, now_ms }: Model): string {
  if (screen !== "incoming") return call === null ? "Tandem" : `${call.peer} – Tandem`;
  return Math.floor(now_ms / 1000) % 2 === 0 ? `${call?.peer ?? ""} calls` : "Incoming call";
}
