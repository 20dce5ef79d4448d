// A server that lies: stands between one phone and the servers, keeps what passes, and changes what a test tells it to. What
// the lies are is the tests' business; what a liar can make itself is forgery.ts.

import type { Browser, BrowserContext, Route, WebSocketRoute } from "playwright-core";
import type { DeviceList } from "./forgery.ts";

export interface Push {
  type: string;
  id?: string;
  call_id?: string;
  sealed?: string;
  [field: string]: unknown;
}

/** What a phone asks for that carries something sealed. */
export type Asked = "calls" | "accept" | "signal";

type Sealed = string | Record<string, string>;
export type Lie = (sealed: string) => string;

const LISTS = /\/v1\/accounts\/([^/]+)\/devices$/;
const SEALED = /\/v1\/(?:calls\/[^/]+\/)?(calls|accept|signal)$/;
const CONNECTION = /^wss?:/;
/** The lie's own ids, which the servers have never heard of. */
const MADE_UP = "made-up";

export class Liar {
  /** Where the phone lives to whom it lies. */
  readonly context: BrowserContext;
  /** What the phone asked, as it asked it. */
  readonly asked: { what: Asked; sealed: Sealed }[] = [];
  /** What the servers told the phone, as they told it. */
  readonly told: Push[] = [];
  /** The newest true list of each account. */
  readonly lists = new Map<string, DeviceList>();
  readonly #of = new Map<string, (real: DeviceList) => DeviceList>();
  readonly #lies = new Map<Asked, Lie>();
  #connection: WebSocketRoute | null = null;
  #swap: { held: Push | null; done: () => void } | null = null;
  #made_up = 0;

  private constructor(context: BrowserContext) {
    this.context = context;
  }

  /** A browser profile all of whose pages are lied to. */
  static async between(browser: Browser): Promise<Liar> {
    const liar = new Liar(await browser.newContext({ viewport: { width: 1100, height: 760 } }));
    await liar.context.route(LISTS, (route) => liar.#list(route));
    await liar.context.route(SEALED, (route) => liar.#sealed(route));
    await liar.context.routeWebSocket(CONNECTION, (connection) => liar.#connected(connection));
    return liar;
  }

  /** From now on this is told of an account's devices. */
  lieAbout(account: string, list: (real: DeviceList) => DeviceList): void {
    this.#of.set(account, list);
  }

  /** From now on what the phone has sealed is changed on the way, in every request of this kind. */
  change(what: Asked, lie: Lie): void {
    this.#lies.set(what, lie);
  }

  beHonest(): void {
    this.#of.clear();
    this.#lies.clear();
  }

  asks(what: Asked): Sealed[] {
    return this.asked.filter((one) => one.what === what).map(({ sealed }) => sealed);
  }

  pushes(type: string): Push[] {
    return this.told.filter((push) => push.type === type);
  }

  /** Tells the phone a push again, as a new one: under an id that it has not seen. */
  replay(push: Push): void {
    this.#made_up += 1;
    this.#tell({ ...push, ...(push.id !== undefined && { id: `${MADE_UP}.${this.#made_up}` }) });
  }

  /** The next two signals come in the wrong order; resolves when both have been told. */
  swapSignals(): Promise<void> {
    return new Promise((done) => {
      this.#swap = { held: null, done };
    });
  }

  async #list(route: Route): Promise<void> {
    const response = await route.fetch();
    if (!response.ok()) return route.fulfill({ response });
    const real = (await response.json()) as DeviceList;
    this.lists.set(real.account, real);
    const lie = this.#of.get(real.account);
    return route.fulfill(lie === undefined ? { response } : { response, json: lie(real) });
  }

  async #sealed(route: Route): Promise<void> {
    const what = SEALED.exec(route.request().url())?.[1] as Asked;
    const body = route.request().postDataJSON() as { sealed: Sealed };
    this.asked.push({ what, sealed: body.sealed });
    const lie = this.#lies.get(what);
    if (lie === undefined) return route.continue();
    return route.continue({ postData: JSON.stringify({ ...body, sealed: changed(body.sealed, lie) }) });
  }

  #connected(connection: WebSocketRoute): void {
    const server = connection.connectToServer();
    this.#connection = connection;
    connection.onMessage((frame) => {
      const ids = (JSON.parse(String(frame)) as { ids?: string[] }).ids ?? [];
      if (!ids.some((id) => id.startsWith(MADE_UP))) server.send(frame);
    });
    server.onMessage((frame) => this.#pass(JSON.parse(String(frame)) as Push));
  }

  #pass(push: Push): void {
    this.told.push(push);
    const swap = this.#swap;
    if (swap === null || push.type !== "call.signal") return this.#tell(push);
    if (swap.held === null) {
      swap.held = push;
      return;
    }
    this.#swap = null;
    this.#tell(push);
    this.#tell(swap.held);
    swap.done();
  }

  #tell(push: Push): void {
    if (this.#connection === null) throw new Error("this phone has no connection to tell it anything on");
    this.#connection.send(JSON.stringify(push));
  }
}

function changed(sealed: Sealed, lie: Lie): Sealed {
  if (typeof sealed === "string") return lie(sealed);
  return Object.fromEntries(Object.entries(sealed).map(([device, blob]) => [device, lie(blob)]));
}
