// Where a device keeps what must survive a reload (docs/sealing.md, "Kept by a device"): a few tables of records by name.
// Decides the interface, and is one in memory for tests; the browser's is indexeddb.ts.

/** `devices`: keys; `sessions`: of running calls; `nonces`: of offers; `trust`: what is remembered of other accounts. */
export type Table = "devices" | "sessions" | "nonces" | "trust";

export const TABLES: readonly Table[] = ["devices", "sessions", "nonces", "trust"];

export interface Store {
  get<T>(table: Table, name: string): Promise<T | undefined>;
  /** Done only when it is kept. */
  put(table: Table, name: string, record: object): Promise<void>;
  delete(table: Table, name: string): Promise<void>;
  /** Those whose name begins so, in the order of their names. */
  all<T>(table: Table, prefix: string): Promise<[name: string, record: T][]>;
}

export class MemoryStore implements Store {
  readonly #tables = new Map<Table, Map<string, object>>(TABLES.map((table) => [table, new Map()]));

  async get<T>(table: Table, name: string): Promise<T | undefined> {
    const record = this.#of(table).get(name);
    return record === undefined ? undefined : copy(record as T);
  }

  async put(table: Table, name: string, record: object): Promise<void> {
    this.#of(table).set(name, copy(record));
  }

  async delete(table: Table, name: string): Promise<void> {
    this.#of(table).delete(name);
  }

  async all<T>(table: Table, prefix: string): Promise<[string, T][]> {
    const found = [...this.#of(table)].filter(([name]) => name.startsWith(prefix));
    return found.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, record]) => [name, copy(record as T)]);
  }

  #of(table: Table): Map<string, object> {
    return this.#tables.get(table) ?? new Map<string, object>();
  }
}

/** As a database has it: later changes to the record are not kept. Keys are handed on as they are. */
function copy<T>(record: T): T {
  if (Array.isArray(record)) return record.map((one: unknown) => copy(one)) as T;
  if (typeof record !== "object" || record === null || Object.getPrototypeOf(record) !== Object.prototype) return record;
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, copy(value as unknown)])) as T;
}
