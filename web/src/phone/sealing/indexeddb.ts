// The store of the browser: one IndexedDB database for all tabs of the page. Keys that cannot be exported can be kept there.
// Decides nothing; what is kept where is said by those who keep it.

import { type Store, type Table, TABLES } from "./store.ts";

const DATABASE = "tandem.phone";
const VERSION = 1;

/** On the disk before it counts as kept: a number that is used twice would give away what was said with it. */
const DURABLE: IDBTransactionOptions = { durability: "strict" };

export class IndexedDbStore implements Store {
  readonly #opened: Promise<IDBDatabase>;

  constructor(factory: IDBFactory) {
    this.#opened = open(factory);
    this.#opened.catch(() => undefined);
  }

  async get<T>(table: Table, name: string): Promise<T | undefined> {
    return answer((await this.#in(table, "readonly")).get(name) as IDBRequest<T | undefined>);
  }

  async put(table: Table, name: string, record: object): Promise<void> {
    await this.#write(table, (records) => records.put(record, name));
  }

  async delete(table: Table, name: string): Promise<void> {
    await this.#write(table, (records) => records.delete(name));
  }

  async all<T>(table: Table, prefix: string): Promise<[string, T][]> {
    const records = await this.#in(table, "readonly");
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    const [names, values] = await Promise.all([answer(records.getAllKeys(range)), answer(records.getAll(range))]);
    return names.map((name, i) => [String(name), values[i] as T]);
  }

  async #in(table: Table, mode: IDBTransactionMode): Promise<IDBObjectStore> {
    return (await this.#opened).transaction(table, mode, DURABLE).objectStore(table);
  }

  /** Ends when the transaction has: only then is it kept. */
  async #write(table: Table, what: (records: IDBObjectStore) => IDBRequest): Promise<void> {
    const records = await this.#in(table, "readwrite");
    what(records);
    await new Promise<void>((resolve, reject) => {
      records.transaction.addEventListener("complete", () => resolve());
      records.transaction.addEventListener("abort", () => reject(records.transaction.error ?? new Error("not kept")));
    });
  }
}

function open(factory: IDBFactory): Promise<IDBDatabase> {
  const request = factory.open(DATABASE, VERSION);
  request.addEventListener("upgradeneeded", () => {
    for (const table of TABLES) request.result.createObjectStore(table);
  });
  return answer(request);
}

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error ?? new Error("the database does not answer")));
  });
}
