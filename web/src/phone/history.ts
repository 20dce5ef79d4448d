// Keeps the calls of this tab, newest first, in sessionStorage. A call stands in it once: what was said first stays.

import { HISTORY_MAX } from "./limits.ts";
import type { HistoryEntry } from "./state.ts";

export class History {
  readonly #storage: Pick<Storage, "getItem" | "setItem">;
  readonly #name: string;

  constructor(storage: Pick<Storage, "getItem" | "setItem">, account: string) {
    this.#storage = storage;
    this.#name = `tandem.phone.history.${account}`;
  }

  get entries(): readonly HistoryEntry[] {
    try {
      const kept: unknown = JSON.parse(this.#storage.getItem(this.#name) ?? "[]");
      return Array.isArray(kept) ? (kept as HistoryEntry[]) : [];
    } catch {
      return [];
    }
  }

  add(entry: HistoryEntry): void {
    const before = this.entries;
    if (entry.call_id !== null && before.some(({ call_id }) => call_id === entry.call_id)) return;
    const all = [entry, ...before].sort((a, b) => b.at_ms - a.at_ms).slice(0, HISTORY_MAX);
    this.#storage.setItem(this.#name, JSON.stringify(all));
  }
}
