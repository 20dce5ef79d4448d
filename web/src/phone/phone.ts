// Runs the machine: takes what happens, does what it asks, and tells the view. It decides nothing about calls itself.

import { openCamera } from "../camera.ts";
import { Capped } from "../capped.ts";
import { nowMs } from "../clock.ts";
import type { PhoneConfig, PhoneEvent, PhoneSnapshot } from "../phone";
import { type Api, fetchConfig } from "./api.ts";
import type { Failure } from "./causes.ts";
import { History } from "./history.ts";
import { jitteredMs } from "./jitter.ts";
import { EVENTS_MAX, EXAMINE_AGAIN_MS } from "./limits.ts";
import { Line } from "./line.ts";
import { step } from "./machine.ts";
import { OwnWatch } from "./own-watch.ts";
import { failureOf } from "./requests.ts";
import { IndexedDbStore } from "./sealing/indexeddb.ts";
import type { Known } from "./sealing/trust.ts";
import { type SignedIn, signIn } from "./signing-in.ts";
import { Socket } from "./socket.ts";
import { type Effect, type Event, type HistoryEntry, INITIAL, type Offer, type Sends, type State, screenOf } from "./state.ts";
import { NOTHING, type Streams, openMedia } from "./streams.ts";
import { openOffer } from "./talk.ts";
import { detailOf, snapshotOf } from "./told.ts";
import type { Media, Place } from "./wire.ts";

export interface PhoneListener {
  /** The state, or something of what is shown with it, has changed. */
  changed(): void;
  peerConnection(pc: RTCPeerConnection | null): void;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
/** The same question may be answered later. */
const isAway = ({ status }: Failure): boolean => status === 0 || status === 429 || status >= 500;
const ALWAYS_RELAY = "tandem.phone.always_relay";
const request: typeof fetch = (url, init) => fetch(url, init);

export class Phone {
  state: State = INITIAL;
  streams: Streams = NOTHING;
  config: PhoneConfig | undefined;
  readonly events = new Capped<PhoneEvent>(EVENTS_MAX);
  readonly #listener: PhoneListener;
  #signed_in: SignedIn | null = null;
  #watch: OwnWatch | null = null;
  #socket: Socket | null = null;
  #history: History | null = null;
  readonly #store = new IndexedDbStore(indexedDB);
  #line: { attempt: number; line: Line } | null = null;
  /** The same from the moment its camera is being opened; null inside: there will be none. */
  #opening: { attempt: number; line: Promise<Line | null> } | null = null;
  /** Grows whenever a line is closed, so that a camera that opens late is shut again. */
  #lines = 0;
  /** Grows whenever the camera is switched, for the same. */
  #cameras = 0;

  constructor(listener: PhoneListener) {
    this.#listener = listener;
  }

  get pc(): RTCPeerConnection | undefined {
    return this.#line?.line.pc;
  }

  get history(): readonly HistoryEntry[] {
    return this.#history?.entries ?? [];
  }

  get always_relay(): boolean {
    return localStorage.getItem(ALWAYS_RELAY) !== "off";
  }

  set always_relay(on: boolean) {
    localStorage.setItem(ALWAYS_RELAY, on ? "on" : "off");
    this.#listener.changed();
  }

  get #api(): Api | null {
    return this.#signed_in?.api ?? null;
  }

  /** What is remembered of a peer; null: this device has never met it. */
  known(peer: string): Known | null {
    return this.#signed_in?.trust.known(peer) ?? null;
  }

  /** Asks for the peer's devices, so that something is known of it. False: it has none, or they do not hold. */
  async meet(peer: string): Promise<boolean> {
    try {
      const list = await this.#signed_in?.sealer.list(peer);
      return list !== undefined && list.root !== null;
    } catch (error) {
      const { code } = failureOf(error);
      this.#log("meet", code);
      return code === "identity_changed";
    }
  }

  compared(peer: string, done: boolean): void {
    void this.#signed_in?.trust.compared(peer, done);
  }

  /** A call that waits for it goes on; without one it is remembered for the next. */
  confirmIdentity(peer: string): void {
    const { call } = this.state;
    if (call?.doubt === true && call.peer === peer) this.happen({ t: "confirm_identity" });
    else void this.#signed_in?.trust.confirm(peer);
  }

  /** What the account's list says of this device, and of those that wait for it. */
  lookAtOwn(): void {
    void this.#watch?.look();
  }

  snapshot(): PhoneSnapshot {
    return snapshotOf(this.state);
  }

  happen(event: Event): void {
    const before = screenOf(this.state);
    const { state, effects } = step(this.state, event, nowMs());
    this.state = state;
    if (event.t !== "own_devices") this.#log(event.t, detailOf(event));
    if (screenOf(state) !== before) this.#log("screen", screenOf(state));
    for (const effect of effects) this.#do(effect);
    this.#listener.changed();
  }

  /** The network changed, or is back. */
  networkChanged(): void {
    this.#log("network", navigator.onLine ? "online" : "offline");
    this.#socket?.hurry();
    void this.#line?.line.restart("ticket");
  }

  mute(on: boolean): void {
    const { local, sends } = this.streams;
    for (const track of local?.getAudioTracks() ?? []) track.enabled = !on;
    void this.#send(local ?? new MediaStream(), { ...sends, microphone: !on });
  }

  /** The camera is let go of when it is off, so that its light goes out. */
  async camera(on: boolean): Promise<void> {
    this.#cameras += 1;
    const [mine, asked] = [this.#lines, this.#cameras];
    for (const track of this.streams.local?.getVideoTracks() ?? []) track.stop();
    let filmed: MediaStreamTrack[] = [];
    if (on) {
      try {
        filmed = (await openCamera({ video: true })).getVideoTracks();
      } catch {
        return this.#log("camera", "cannot be opened");
      }
    }
    // Meanwhile the call may have ended, or the camera been asked for once more.
    if (mine !== this.#lines || asked !== this.#cameras) return filmed.forEach((track) => track.stop());
    // As they are now: the microphone may have been switched while the camera opened.
    const { local, sends } = this.streams;
    await this.#send(new MediaStream([...(local?.getAudioTracks() ?? []), ...filmed]), { ...sends, camera: on });
  }

  async #send(local: MediaStream, sends: Sends): Promise<void> {
    this.#show({ local, sends });
    await this.#line?.line.send(local, sends).catch((error: unknown) => this.#log("media", failureOf(error).title));
  }

  #do(effect: Effect): void {
    this.#log("do", effect.t);
    switch (effect.t) {
      case "sign_in":
        return void this.#signIn(effect.account);
      case "connect":
        return this.#socket?.connect();
      case "dial": {
        const { attempt, to, media, sends } = effect;
        return void this.#begin(attempt, media, sends, false, "placed", (line) => line.dial(to));
      }
      case "examine":
        return void this.#examine(effect.attempt, effect.offer);
      case "accept": {
        const { attempt, offer, sends } = effect;
        return void this.#begin(attempt, offer.media, sends, true, "answered", (line) => line.accept(offer));
      }
      case "rejoin": {
        const { attempt, call_id, peer, media, sends, polite } = effect;
        return void this.#begin(attempt, media, sends, polite, "rejoined", (line) => line.rejoin(call_id, peer));
      }
      case "apply_answer":
        return void this.#hear(effect.attempt, effect.push.id, (line) => line.applyAnswer(effect.push, effect.device));
      case "signal":
        return void this.#hear(effect.attempt, effect.push.id, (line) => line.signal(effect.push));
      case "restart":
        if (this.#line?.attempt === effect.attempt) void this.#line.line.restart("rejoin");
        return;
      case "close_line":
        return this.#closeLine();
      case "confirm_identity":
        return void this.#signed_in?.trust.confirm(effect.peer);
      case "endorse":
        return this.#tell(effect.t, this.#signed_in?.own.endorse(effect.device).then(() => this.lookAtOwn()));
      case "look_at_own":
        return this.lookAtOwn();
      case "forget":
        this.#signed_in?.trust.seen(effect.peer);
        if (effect.call_id !== null) this.#tell(effect.t, this.#signed_in?.sealer.forget(effect.call_id));
        return;
      case "ringing":
        return this.#tell(effect.t, this.#api?.ringing(effect.call_id));
      case "reject":
        return this.#tell(effect.t, this.#api?.reject(effect.call_id, effect.reason));
      case "end":
        return this.#tell(effect.t, this.#api?.end(effect.call_id));
      case "look":
        return void this.#look(effect.call_id);
      case "ack":
        return this.#socket?.ack(effect.ids);
      case "timer":
        setTimeout(() => this.happen(effect.event), effect.ms);
        return;
      case "remember":
        return this.#history?.add(effect.entry);
    }
  }

  async #signIn(account: string): Promise<void> {
    try {
      this.config ??= await fetchConfig(request);
      const signed_in = await signIn(this.config, account, this.#store, request, () => this.#listener.changed());
      const { api, device, own, endorsed } = signed_in;
      this.#signed_in = signed_in;
      this.#history = new History(sessionStorage, account);
      this.#socket = this.#newSocket(api, this.config.connect);
      this.happen({ t: "signed_in", account, device, join_code: endorsed ? null : await own.code() });
      this.#watch = new OwnWatch(signed_in, {
        screen: () => screenOf(this.state),
        looked: ({ registered, join_code, let_in, waiting }) =>
          this.happen({ t: "own_devices", registered, join_code, let_in, waiting }),
        log: (name, detail) => this.#log(name, detail),
      });
      void this.#watch.run();
    } catch (error) {
      this.happen({ t: "sign_in_failed", failure: failureOf(error) });
    }
  }

  /** Opens what a call begins with, before it rings; while the server is away, again until the ring is over. */
  async #examine(attempt: number, offer: Offer): Promise<void> {
    const { sealer } = this.#signed_in ?? {};
    while (sealer !== undefined && this.state.call?.attempt === attempt) {
      try {
        await openOffer(sealer, offer);
        return this.happen({ t: "examined", attempt });
      } catch (error) {
        const failure = failureOf(error);
        if (!isAway(failure)) return this.happen({ t: "refused", attempt, failure });
        await pause(EXAMINE_AGAIN_MS);
      }
    }
  }

  #newSocket(api: Api, url: string): Socket {
    const open = (to: string, protocols: string[]): WebSocket => new WebSocket(to, protocols);
    return new Socket(
      { url, token: (anew) => api.token(anew), random: Math.random, open },
      {
        connecting: () => this.happen({ t: "socket", socket: "connecting" }),
        sync: (pushes) => {
          this.happen({ t: "sync", pushes });
          // A token says who the device is and not that it is registered: it may have been removed while it was away.
          this.lookAtOwn();
        },
        push: (push) => this.happen({ t: "push", push }),
        down: (code) => {
          this.#log("close", String(code));
          this.happen({ t: "socket", socket: "down" });
        },
        elsewhere: () => this.happen({ t: "socket", socket: "elsewhere" }),
      },
    );
  }

  /** Opens what is to be sent, then does the first thing of a call; what came of it happens to the machine. */
  async #begin(
    attempt: number,
    media: Media,
    sends: Sends,
    polite: boolean,
    done: "placed" | "answered" | "rejoined",
    first: (line: Line) => Promise<Place>,
  ): Promise<void> {
    const signed_in = this.#signed_in;
    if (signed_in === null) return;
    this.#closeLine();
    const mine = this.#lines;
    // There before its camera is open: what the other side says meanwhile waits for it.
    const opened = openMedia(sends);
    const coming: Promise<Line | null> = opened.then(
      (local) => (mine === this.#lines ? this.#newLine(signed_in, attempt, media, sends, polite, local) : null),
      () => null,
    );
    this.#opening = { attempt, line: coming };
    let local: MediaStream;
    try {
      local = await opened;
    } catch {
      const problem = sends.camera ? "camera" : "microphone";
      return this.happen({ t: "no_media", attempt, problem });
    }
    try {
      const line = await coming;
      if (line === null) {
        for (const track of local.getTracks()) track.stop();
        throw new Error("given up");
      }
      const place = await first(line);
      this.happen({ t: done, attempt, place });
    } catch (error) {
      this.happen({ t: "refused", attempt, failure: failureOf(error) });
    }
  }

  #newLine(
    { api, sealer }: SignedIn,
    attempt: number,
    media: Media,
    sends: Sends,
    polite: boolean,
    local: MediaStream,
  ): Line {
    const policy = this.always_relay ? "relay" : "all";
    this.#show({ local, sends });
    const line = new Line({
      api,
      sealer,
      policy,
      local,
      sends,
      media,
      polite,
      events: {
        up: () => this.happen({ t: "media_up", attempt }),
        down: () => this.happen({ t: "media_down", attempt }),
        unsecured: () => this.happen({ t: "media_refused", attempt }),
        remote: (remote) => this.#show({ remote }),
        peerSends: (peer_sends) => this.#show({ peer_sends }),
        unsealed: (error) => this.happen({ t: "refused", attempt, failure: failureOf(error) }),
        peerConnection: (pc) => this.#listener.peerConnection(pc),
        log: (name, detail) => this.#log(name, detail),
      },
    });
    this.#line = { attempt, line };
    return line;
  }

  /** Hands something to the line of the call, once it is there; then it is acknowledged. */
  async #hear(attempt: number, id: string | undefined, what: (line: Line) => Promise<void>): Promise<void> {
    const line = this.#opening?.attempt === attempt ? await this.#opening.line : null;
    if (line !== null) await what(line);
    if (id !== undefined) this.#socket?.ack([id]);
  }

  #closeLine(): void {
    this.#lines += 1;
    this.#line?.line.close();
    this.#line = null;
    this.#opening = null;
    this.streams = NOTHING;
    this.#listener.peerConnection(null);
  }

  /** Asks until the server answers: a call must not hang in between. */
  async #look(call_id: string): Promise<void> {
    for (let pause_ms = 0; ; ) {
      try {
        const view = (await this.#api?.look(call_id)) ?? null;
        return this.happen({ t: "looked", call_id, view });
      } catch (error) {
        if (!isAway(failureOf(error))) return this.happen({ t: "looked", call_id, view: null });
      }
      pause_ms = jitteredMs(pause_ms, Math.random());
      await pause(pause_ms);
    }
  }

  /** What needs no answer: if it is refused, the call has moved on, and a push says how. */
  #tell(name: string, asked: Promise<void> | undefined): void {
    asked?.catch((error: unknown) => this.#log(name, `refused: ${failureOf(error).code}`));
  }

  #show(shown: Partial<Streams>): void {
    this.streams = { ...this.streams, ...shown };
    this.#listener.changed();
  }

  #log(name: string, detail: string): void {
    this.events.push({ at: nowMs(), name, detail });
  }
}
