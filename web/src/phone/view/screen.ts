// What a screen is, what it is given to show and what it can ask for.

import type { Event, HistoryEntry, State } from "../state.ts";
import type { Streams } from "../phone.ts";
import type { Quality } from "../quality.ts";

export interface Model {
  state: State;
  streams: Streams;
  history: readonly HistoryEntry[];
  always_relay: boolean;
  quality: Quality | null;
  now_ms: number;
}

export interface Actions {
  happen(event: Event): void;
  mute(on: boolean): void;
  camera(on: boolean): void;
  alwaysRelay(on: boolean): void;
  signOut(): void;
}

export interface ScreenView {
  root: HTMLElement;
  /**
   * Where the keyboard starts. No button on screens that come unasked or right after a press: a key meant for what was
   * there before must not answer or end a call.
   */
  first: HTMLElement;
  update(model: Model): void;
}

export type MakeScreen = (model: Model, actions: Actions) => ScreenView;
