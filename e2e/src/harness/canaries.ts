// Looks for words in everything that the processes of a `tandem dev` keep, say and hold, and on the wire to them
// (examples/canaries.rs), and gathers from browsers the words that only some may know.

import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import type { BrowserContext } from "playwright-core";
import { CANARIES_BIN, need } from "./paths.ts";

/** Words by their kind. */
export class Words {
  readonly text = new Map<string, Set<string>>();
  /** In hexadecimal. */
  readonly bytes = new Map<string, Set<string>>();

  add(kind: string, ...words: string[]): void {
    for (const word of words) this.text.set(kind, (this.text.get(kind) ?? new Set()).add(word));
  }

  addBytes(kind: string, hex: string): void {
    this.bytes.set(kind, (this.bytes.get(kind) ?? new Set()).add(hex));
  }
}

export interface Places {
  /** Processes, by their pids. */
  memory?: Record<string, number>;
  texts?: Record<string, string>;
  /** Files, and folders with all that is in them. */
  files?: Record<string, string>;
}

export interface Report {
  /** Kinds of words, and where they are. */
  found: Record<string, string[]>;
  /** Bytes that were looked at. */
  looked: Record<string, number>;
  /** Who talks with each of our ports; null where nobody may listen. */
  clients: Record<string, string[]> | null;
  /** How often something of a connection was not heard. */
  gaps: number;
}

export interface Ports {
  tcp: Record<string, number>;
  udp: Record<string, number>;
}

export class Searcher {
  /** Whether the wire is listened to: only root may. */
  readonly listens: boolean;
  readonly #child: ChildProcess;
  readonly #answers: Answers;

  private constructor(child: ChildProcess, answers: Answers, listens: boolean) {
    this.#child = child;
    this.#answers = answers;
    this.listens = listens;
  }

  /** Listens from now on to what goes to and comes from these ports, until it is first asked. */
  static async start({ tcp, udp }: Ports): Promise<Searcher> {
    need(CANARIES_BIN, "build it first (cargo build --example canaries), or name it in TANDEM_CANARIES");
    const flags = (flag: string, ports: Record<string, number>) =>
      Object.entries(ports).flatMap(([name, port]) => [flag, `${name}=${port}`]);
    const child = spawn(CANARIES_BIN, [...flags("--tcp", tcp), ...flags("--udp", udp)], { stdio: ["pipe", "pipe", "inherit"] });
    const answers = new Answers(child);
    const { listens } = (await answers.next()) as { listens: boolean };
    return new Searcher(child, answers, listens);
  }

  /** Looks at these places, and at the wire. */
  async look(words: Words, places: Places): Promise<Report> {
    const lists = (of: Map<string, Set<string>>) => Object.fromEntries([...of].map(([kind, all]) => [kind, [...all]]));
    const asked = { words: lists(words.text), bytes: lists(words.bytes), ...places };
    this.#child.stdin?.write(`${JSON.stringify(asked)}\n`);
    return (await this.#answers.next()) as Report;
  }

  stop(): void {
    this.#child.kill();
  }
}

/** The lines of JSON that it says. */
class Answers {
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<never>;

  constructor(child: ChildProcess) {
    if (child.stdout === null) throw new Error("the searcher has no stdout");
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.#ended = new Promise((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(new Error(`the searcher has ended (${code ?? signal})`)));
    });
    this.#ended.catch(() => undefined);
  }

  async next(): Promise<unknown> {
    const next = await Promise.race([this.#lines.next(), this.#ended]);
    return JSON.parse(String(next.value));
  }
}

/** What the servers tell a browser's pages of tokens and tickets. */
export class Told {
  readonly tokens = new Set<string>();
  readonly tickets: { username: string; credential: string }[] = [];
  #reading: Promise<void>[] = [];

  constructor(context: BrowserContext) {
    context.on("response", (response) => {
      if (!response.ok() || !/\/v1\/(dev\/tokens|calls)/.test(response.url())) return;
      // A body that cannot be read any more (a page that went away) told nobody anything.
      const reading = response.json().then((body: Record<string, unknown>) => this.#take(body)).catch(() => undefined);
      this.#reading.push(reading);
    });
  }

  /** All that was told until now is here. */
  async all(): Promise<this> {
    await Promise.all(this.#reading);
    return this;
  }

  #take({ token, ice_servers }: { token?: unknown; ice_servers?: unknown }): void {
    if (typeof token === "string") this.tokens.add(token);
    if (Array.isArray(ice_servers)) this.tickets.push(...(ice_servers as { username: string; credential: string }[]));
  }
}

/** TCP ports that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<typeof server>((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** The processes of Chromium below this one that hold pages, the newest first. */
export async function pageProcesses(): Promise<number[]> {
  const parents = new Map<number, number>();
  const pages: number[] = [];
  for (const name of (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry))) {
    const of = (file: string) => readFile(path.join("/proc", name, file), "utf8").catch(() => "");
    const stat = await of("stat");
    // "pid (name) S parent …": the name may hold anything.
    parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")")).split(" ")[2]));
    if ((await of("cmdline")).includes("--type=renderer")) pages.push(Number(name));
  }
  const below = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent !== undefined && (parent === process.pid || below(parent));
  };
  return pages.filter(below).sort((one, other) => other - one);
}
