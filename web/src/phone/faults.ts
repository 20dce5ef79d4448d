// What the fault panel knows and does: the processes of `tandem dev`, looked at while the panel is open, and the orders to
// them. How it looks is view/faults.ts.

import { ms } from "../format.ts";
import { ApiError, type DevApi, type Process } from "../dev-api.ts";
import { FAULTS_LOOK_MS } from "./limits.ts";

export type Order = "kill" | "pause" | "resume";

export interface Faults {
  /** Null until they were heard of. What was last heard stays while nobody answers. */
  processes: readonly Process[] | null;
  /** What is to be said of the last order, or of a server that does not answer; empty when there is nothing. */
  note: string;
}

export interface Surroundings {
  api: Pick<DevApi, "processes" | "kill" | "pause" | "resume">;
  /** Something of what is shown has changed. */
  changed(faults: Faults): void;
  /** Calls back once, later; what it gives takes that back. */
  later(work: () => void, ms: number): () => void;
}

export class FaultsWatch {
  readonly #around: Surroundings;
  #shown: Faults = { processes: null, note: "" };
  #open = false;
  /** Only the newest look may say what it saw, and plan the next. */
  #look = 0;
  #cancel: () => void = () => undefined;

  constructor(around: Surroundings) {
    this.#around = around;
  }

  /** Whether this page comes from a `tandem dev`, which alone has processes to show. */
  async isThere(): Promise<boolean> {
    try {
      this.#show({ processes: (await this.#around.api.processes()).items });
      return true;
    } catch (error) {
      // One that does not answer now may later; one that knows nothing of processes never does.
      return !(error instanceof ApiError && error.status >= 400 && error.status < 500);
    }
  }

  /** Looks now, and again and again until it is closed. */
  open(): void {
    this.#open = true;
    void this.#renew();
  }

  close(): void {
    this.#open = false;
    this.#look += 1;
    this.#cancel();
    this.#show({ note: "" });
  }

  /** `away_ms`: how long a process that is killed stays away. */
  async order(name: string, order: Order, away_ms: number): Promise<void> {
    const { api } = this.#around;
    try {
      if (order === "kill") await api.kill(name, { restart_after_ms: away_ms });
      else await api[order](name);
      this.#show({ note: done(name, order, away_ms) });
    } catch (error) {
      this.#show({ note: `${name}: ${error instanceof ApiError ? error.message : String(error)}.` });
    }
    if (this.#open) await this.#renew();
  }

  async #renew(): Promise<void> {
    const mine = ++this.#look;
    this.#cancel();
    const change = await this.#around.api.processes().then(
      ({ items }): Partial<Faults> => ({ processes: items, ...(this.#shown.note === NO_ANSWER && { note: "" }) }),
      (): Partial<Faults> => ({ note: NO_ANSWER }),
    );
    if (mine !== this.#look) return;
    this.#show(change);
    this.#cancel = this.#around.later(() => void this.#renew(), FAULTS_LOOK_MS);
  }

  #show(change: Partial<Faults>): void {
    this.#shown = { ...this.#shown, ...change };
    this.#around.changed(this.#shown);
  }
}

const NO_ANSWER = "tandem dev does not answer.";

function done(name: string, order: Order, away_ms: number): string {
  switch (order) {
    case "kill":
      return away_ms === 0 ? `${name} was killed.` : `${name} was killed, and stays away for ${away_ms / 1000} s.`;
    case "pause":
      return `${name} stands still.`;
    case "resume":
      return `${name} goes on.`;
  }
}

export interface Line {
  name: string;
  text: string;
  tone: "good" | "warn" | "bad";
  /** What the second button does; null while there is nothing to pause. */
  second: "pause" | "resume" | null;
  /** False while there is nothing to kill. */
  kill: boolean;
}

const STATES: Record<Process["state"], Pick<Line, "text" | "tone" | "second" | "kill">> = {
  ready: { text: "runs", tone: "good", second: "pause", kill: true },
  starting: { text: "starts", tone: "warn", second: "pause", kill: true },
  paused: { text: "paused", tone: "warn", second: "resume", kill: true },
  down: { text: "down", tone: "bad", second: null, kill: false },
};

/** One process as its line in the panel says it. */
export function lineOf({ name, state, outage_ms }: Process): Line {
  const { text, ...rest } = STATES[state];
  return { name, text: outage_ms === null ? text : `${text} · last away ${ms(outage_ms)}`, ...rest };
}
