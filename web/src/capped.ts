// A list that keeps the newest entries and counts what it dropped.

export class Capped<T> {
  readonly #cap: number;
  #items: T[] = [];
  #dropped = 0;

  constructor(cap: number) {
    this.#cap = cap;
  }

  /** Oldest first. */
  get items(): readonly T[] {
    return this.#items;
  }

  get dropped(): number {
    return this.#dropped;
  }

  get last(): T | undefined {
    return this.#items.at(-1);
  }

  push(item: T): void {
    this.#items.push(item);
    const over = this.#items.length - this.#cap;
    if (over > 0) {
      this.#items.splice(0, over);
      this.#dropped += over;
    }
  }

  clear(): void {
    this.#items = [];
    this.#dropped = 0;
  }
}
