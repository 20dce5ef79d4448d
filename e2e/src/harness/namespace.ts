// A network namespace of our own with two ways out, for one browser: what happens to a phone that loses one of them.
//
// The relay is reached at an address of this machine by either way. The page and both servers are reached at the browser's own
// localhost, through unix sockets, since only there a page may use a camera: what is cut is the media's way alone.

import { execFileSync, spawn } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, connect, type Server } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

/** Where the relay is to listen: on this machine's loopback, reached by both ways. */
export const RELAY = "10.213.0.1";

const FORWARD = `
const net = require("node:net");
for (const port of process.argv.slice(1).map(Number)) {
  net.createServer((inside) => {
    const outside = net.connect(process.env.SOCKETS + "/" + port);
    inside.pipe(outside).pipe(inside);
    for (const end of [inside, outside]) end.on("error", () => { inside.destroy(); outside.destroy(); });
  }).listen(port, "127.0.0.1", () => process.stdout.write("listening\\n"));
}
`;

function ip(...words: string[]): void {
  execFileSync("ip", words, { stdio: ["ignore", "ignore", "pipe"] });
}

export class Namespace {
  readonly name: string;
  readonly #folder: string;
  readonly #ends: (() => void)[] = [];

  private constructor(name: string, folder: string) {
    this.name = name;
    this.#folder = folder;
  }

  /** Needs root, and `ip` of iproute2. */
  static async make(): Promise<Namespace> {
    const name = `tandem-e2e-${process.pid}`;
    const namespace = new Namespace(name, await mkdtemp(path.join(tmpdir(), "tandem-netns-")));
    ip("netns", "add", name);
    ip("-n", name, "link", "set", "lo", "up");
    ip("addr", "replace", `${RELAY}/32`, "dev", "lo");
    for (const way of [1, 2]) {
      const [here, there] = [`tdm${process.pid}h${way}`.slice(-15), `way${way}`];
      ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name);
      ip("addr", "add", `10.213.${way}.1/24`, "dev", here);
      ip("link", "set", here, "up");
      namespace.up(way);
    }
    return namespace;
  }

  /** Makes what listens on 127.0.0.1 here be there too, under the same ports. */
  async forward(ports: readonly number[]): Promise<void> {
    for (const port of ports) {
      const server: Server = createServer((inside) => {
        const outside = connect(port, "127.0.0.1");
        inside.pipe(outside).pipe(inside);
        for (const end of [inside, outside]) {
          end.on("error", () => {
            inside.destroy();
            outside.destroy();
          });
        }
      });
      await new Promise<void>((resolve) => server.listen(path.join(this.#folder, String(port)), resolve));
      this.#ends.push(() => server.close());
    }
    const child = spawn("ip", ["netns", "exec", this.name, process.execPath, "-e", FORWARD, "--", ...ports.map(String)], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, SOCKETS: this.#folder },
    });
    this.#ends.push(() => child.kill("SIGKILL"));
    let heard = "";
    await new Promise<void>((resolve, reject) => {
      child.once("exit", () => reject(new Error("the forwarder in the namespace has ended")));
      child.stdout.on("data", (chunk: Buffer) => {
        heard += chunk.toString();
        if (heard.split("listening").length > ports.length) resolve();
      });
    });
  }

  /** A program that runs `program` in there: for what starts a browser by its path. */
  async wrapped(program: string): Promise<string> {
    const file = path.join(this.#folder, "run");
    await writeFile(file, `#!/bin/sh\nexec ip netns exec ${this.name} ${program} "$@"\n`);
    await chmod(file, 0o755);
    return file;
  }

  /** Opens a way: its address and its routes. The first way is taken while it is there. */
  up(way: number): void {
    const dev = `way${way}`;
    ip("-n", this.name, "addr", "replace", `10.213.${way}.2/24`, "dev", dev);
    ip("-n", this.name, "link", "set", dev, "up");
    // A default route is what a browser looks for.
    for (const to of ["default", `${RELAY}/32`]) {
      ip("-n", this.name, "route", "replace", to, "via", `10.213.${way}.1`, "dev", dev, "metric", String(way * 100));
    }
  }

  /** Takes a way away: its address and its routes are gone. */
  down(way: number): void {
    ip("-n", this.name, "addr", "flush", "dev", `way${way}`);
    ip("-n", this.name, "link", "set", `way${way}`, "down");
  }

  async remove(): Promise<void> {
    for (const end of this.#ends) end();
    for (const words of [["netns", "del", this.name], ["addr", "del", `${RELAY}/32`, "dev", "lo"]]) {
      try {
        ip(...words);
      } catch {
        // It was never made.
      }
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}
