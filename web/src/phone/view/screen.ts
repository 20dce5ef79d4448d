// What a screen is, what it is given to show and what it can ask for.

import type { Event, HistoryEntry, State } from "../state.ts";
import type { Quality } from "../quality.ts";
import type { Known } from "../sealing/trust.ts";
import type { Streams } from "../streams.ts";

export interface Model {
  state: State;
  streams: Streams;
  history: readonly HistoryEntry[];
  always_relay: boolean;
  quality: Quality | null;
  /** What this device remembers of a peer. */
  known(peer: string): Known | null;
  now_ms: number;
}

export interface Actions {
  happen(event: Event): void;
  mute(on: boolean): void;
  camera(on: boolean): void;
  alwaysRelay(on: boolean): void;
  signOut(): void;
  /** Registers this phone anew, under the same name. */
  signInAgain(): void;
  /** Shows the safety number with this peer, over the screen. */
  safety(peer: string): void;
  compared(peer: string, done: boolean): void;
  confirmIdentity(peer: string): void;
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
