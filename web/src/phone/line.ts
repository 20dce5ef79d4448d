// One call of this tab, from the first camera picture to the end: dials, accepts, rejoins, negotiates, restarts ICE. It does
// in order what docs/api.md asks of WebRTC clients; whether it is done at all the machine decides.

import { pause } from "../backoff.ts";
import { aborted, type Api } from "./api.ts";
import { DEVICES_CHANGED_TRIES, RESTART_PATIENCE_MS } from "./limits.ts";
import { Link } from "./link.ts";
import { Negotiation, type Outstanding } from "./negotiation.ts";
import { type Payload, encode } from "./payload.ts";
import { NO_ANSWER, Refused } from "./requests.ts";
import { SealError } from "./sealing/errors.ts";
import type { Sealer } from "./sealing/sealer.ts";
import type { Offer, Sends } from "./state.ts";
import { Talk, openOffer } from "./talk.ts";
import type { Media, Party, Place, Push } from "./wire.ts";

export interface LineEvents {
  up(): void;
  down(): void;
  /** A way is there, and who is at its other end is not whom the sealed description names: there is nobody to talk with. */
  unsecured(): void;
  remote(stream: MediaStream): void;
  /** What the other side sends of itself. */
  peerSends(sends: Sends): void;
  /** The answer does not open: there is nobody to talk with. */
  unsealed(error: SealError): void;
  /** A peer connection took the place of the one before. */
  peerConnection(pc: RTCPeerConnection): void;
  log(name: string, detail: string): void;
}

export interface LineOptions {
  api: Api;
  sealer: Sealer;
  policy: RTCIceTransportPolicy;
  local: MediaStream;
  sends: Sends;
  media: Media;
  polite: boolean;
  events: LineEvents;
}

export class Line {
  readonly #options: LineOptions;
  readonly #ending = new AbortController();
  #sends: Sends;
  #local: MediaStream;
  #link: Link;
  #negotiation: Negotiation;
  readonly #talk: Talk;
  #call_id: string | null = null;
  #ice_servers: RTCIceServer[] = [];
  #first: Outstanding | null = null;
  #work: Promise<void> = Promise.resolve();
  /** The other side is known, so ICE can be restarted with it. */
  #talks = false;
  #restarting = false;
  #again = false;

  constructor(options: LineOptions) {
    this.#options = options;
    this.#talk = new Talk(options.api, options.sealer, this.#ending.signal);
    this.#sends = options.sends;
    this.#local = options.local;
    this.#negotiation = new Negotiation(crypto.randomUUID(), options.polite);
    this.#link = this.#newLink();
  }

  get pc(): RTCPeerConnection {
    return this.#link.pc;
  }

  /** Places the call. Throws `Refused`. */
  dial(to: string): Promise<Place> {
    return this.#inTurn(() => this.#dial(to));
  }

  /** Answers. Throws `Refused`. */
  accept(offer: Offer): Promise<Place> {
    return this.#inTurn(() => this.#accept(offer));
  }

  /** Takes the call up again with a new peer connection. Throws `Refused`. */
  async rejoin(call_id: string, peer: Party): Promise<Place> {
    const link = this.#link;
    const place = await this.#inTurn(() => this.#rejoin(link, call_id, peer));
    void this.#patience(link);
    return place;
  }

  async #dial(to: string): Promise<Place> {
    const { api, media, sealer } = this.#options;
    const link = this.#link;
    await link.prepare(media, this.#local);
    const offer = await link.pc.createOffer();
    this.#first = this.#negotiation.offering();
    const payload = encode(this.#describe("offer", offer, this.#first.n));
    const note = encode({ v: 1, t: "missed", media });
    for (let tried = 1; ; tried += 1) {
      const { offers, notes } = await sealer.dial(to, payload, note);
      if (offers.size === 0) throw new Refused({ ...NO_ANSWER, status: 404, code: "no_devices", title: "No device" });
      this.#check();
      try {
        const place = await api.place(to, media, offers, notes, crypto.randomUUID());
        await sealer.named(place.call_id);
        if (this.#ending.signal.aborted) return place;
        this.#call_id = place.call_id;
        await this.#gather(link, place.ice_servers, offer);
        return place;
      } catch (error) {
        const changed = error instanceof Refused && error.failure.code === "devices_changed";
        if (!changed || tried >= DEVICES_CHANGED_TRIES) throw error;
      }
    }
  }

  async #accept(offer: Offer): Promise<Place> {
    const link = this.#link;
    const payload = await openOffer(this.#options.sealer, offer);
    this.#call_id = offer.call_id;
    this.#negotiation.onOffer({ pc: payload.pc, to: null });
    this.#options.events.peerSends(payload.sends);
    await link.remoteDescription({ type: "offer", sdp: payload.sdp });
    await link.prepareAnswer(this.#local);
    const answer = await link.pc.createAnswer();
    await this.#talk.begin(offer.call_id, offer.from, "callee");
    this.#check();
    const place = await this.#talk.accept(this.#answer(answer, payload.pc, payload.n));
    if (this.#ending.signal.aborted) return place;
    this.#talks = true;
    await this.#gather(link, place.ice_servers, answer);
    link.release();
    return place;
  }

  async #rejoin(link: Link, call_id: string, peer: Party): Promise<Place> {
    this.#call_id = call_id;
    await this.#talk.begin(call_id, peer, this.#options.polite ? "callee" : "caller");
    const place = await this.#options.api.rejoin(call_id, this.#ending.signal);
    this.#ice_servers = place.ice_servers;
    this.#talks = true;
    await link.prepare(this.#options.media, this.#local);
    await this.#offer(link);
    return place;
  }

  /** The answer to the offer that was dialled with. Without it, or forged, there is no call. */
  applyAnswer(push: Push, from: Party): Promise<void> {
    return this.#queue(async () => {
      try {
        await this.#talk.begin(push.call_id, from, "caller");
        // Told again after it was heard: it has no blob any more. Before that, it must have one.
        if (push.sealed === undefined && this.#talks) return;
        const answer = push.sealed === undefined ? null : await this.#talk.hear(push.call_id, from, push.sealed);
        if (answer?.t !== "answer") throw new SealError("malformed");
        this.#talks = true;
        await this.#hear(answer);
      } catch (error) {
        if (!(error instanceof SealError)) throw error;
        return this.#options.events.unsealed(error);
      }
      this.#link.release();
    });
  }

  /** Something that the other side says. */
  signal(push: Push): Promise<void> {
    return this.#queue(async () => {
      if (push.from === undefined || push.sealed === undefined) return;
      // What does not open is not heard: #queue says so.
      await this.#hear(await this.#talk.hear(push.call_id, push.from, push.sealed));
    });
  }

  /** Other tracks, or none, are sent from now on; the other side is told. */
  async send(local: MediaStream, sends: Sends): Promise<void> {
    this.#local = local;
    this.#sends = sends;
    await this.#link.send(local);
    await this.#talk.say({ v: 1, t: "media", pc: this.#negotiation.mine, sends });
  }

  /** ICE anew, with a fresh ticket; `how` says whether the server must hear first that this device is back. */
  async restart(how: "ticket" | "rejoin"): Promise<void> {
    if (!this.#talks) return;
    if (this.#restarting) {
      this.#again = true;
      return;
    }
    this.#restarting = true;
    try {
      do {
        this.#again = false;
        await this.#restartOnce(how);
      } while (this.#again && !this.#ending.signal.aborted);
    } finally {
      this.#restarting = false;
    }
    await this.#patience(this.#link);
  }

  close(): void {
    this.#ending.abort();
    this.#link.close();
    for (const track of this.#local.getTracks()) track.stop();
  }

  async #restartOnce(how: "ticket" | "rejoin"): Promise<void> {
    const { api, events } = this.#options;
    const call_id = this.#call_id;
    if (call_id === null) return;
    events.log("restart", how);
    try {
      const place = await api[how](call_id, this.#ending.signal);
      this.#ice_servers = place.ice_servers;
      await this.#queue(() => this.#offer(this.#link));
    } catch (error) {
      // The next look at the connection tries again.
      events.log("restart", error instanceof Error ? error.message : "failed");
    }
  }

  /** An ICE that has not come back is restarted again. */
  async #patience(link: Link): Promise<void> {
    await pause(RESTART_PATIENCE_MS, this.#ending.signal);
    const { iceConnectionState } = link.pc;
    const back = iceConnectionState === "connected" || iceConnectionState === "completed";
    if (link === this.#link && !back && !this.#ending.signal.aborted && !this.#restarting) await this.restart("ticket");
  }

  async #offer(link: Link): Promise<void> {
    const { pc } = link;
    this.#check();
    if (pc.signalingState === "have-remote-offer") return;
    // An offer of ours that was never answered makes room for this one.
    if (pc.signalingState === "have-local-offer") await pc.setLocalDescription({ type: "rollback" });
    link.servers(this.#ice_servers);
    const ours = this.#negotiation.offering();
    const fresh = ours.to === null;
    const offer = await pc.createOffer({ iceRestart: true });
    const head = { v: 1, t: "restart-offer", pc: this.#negotiation.mine, to: ours.to, n: ours.n, fresh } as const;
    await this.#talk.say({ ...head, sdp: offer.sdp ?? "", sends: this.#sends });
    if (!this.#negotiation.stands(ours) || link !== this.#link) return;
    await pc.setLocalDescription(offer);
    if (!fresh) link.release();
  }

  async #hear(payload: Payload | null): Promise<void> {
    const { events } = this.#options;
    if (payload === null) return events.log("signal", "not understood");
    events.log("signal", payload.t);
    switch (payload.t) {
      case "candidates":
        if (this.#negotiation.takes(payload)) await this.#link.take(payload.candidates);
        return;
      case "answer":
        if (!this.#negotiation.onAnswer(payload)) return events.log("signal", "an answer to nothing");
        events.peerSends(payload.sends);
        await this.#link.remoteDescription({ type: "answer", sdp: payload.sdp });
        this.#link.release();
        return;
      case "restart-offer":
        return this.#offered(payload);
      case "media":
        if (payload.pc === this.#negotiation.theirs) events.peerSends(payload.sends);
        return;
      case "offer":
      case "missed":
        return;
    }
  }

  async #offered(payload: Extract<Payload, { t: "restart-offer" }>): Promise<void> {
    const { api, events, polite } = this.#options;
    const verdict = this.#negotiation.onOffer(payload);
    events.log("offer", verdict);
    if (verdict === "ignore") return;
    if (verdict === "offer_fresh" || verdict === "answer_anew") {
      events.down();
      this.#link.close();
      this.#negotiation = new Negotiation(crypto.randomUUID(), polite);
      this.#link = this.#newLink();
    }
    const link = this.#link;
    const call_id = this.#call_id;
    if (call_id === null) return;
    try {
      this.#ice_servers = (await api.ticket(call_id, this.#ending.signal)).ice_servers;
    } catch (error) {
      events.log("ticket", error instanceof Error ? error.message : "refused");
    }
    this.#check();
    if (verdict === "offer_fresh") {
      await link.prepare(this.#options.media, this.#local);
      return this.#offer(link);
    }
    if (verdict === "answer_anew") this.#negotiation.onOffer({ pc: payload.pc, to: null });
    events.peerSends(payload.sends);
    await link.remoteDescription({ type: "offer", sdp: payload.sdp });
    await link.prepareAnswer(this.#local);
    const answer = await link.pc.createAnswer();
    await this.#talk.say(this.#answer(answer, payload.pc, payload.n));
    this.#check();
    await this.#gather(link, this.#ice_servers, answer);
    link.release();
  }

  #newLink(): Link {
    const { policy, events } = this.#options;
    const link: Link = new Link(policy, {
      candidates: (candidates) => {
        const { mine, theirs } = this.#negotiation;
        if (link !== this.#link || theirs === null) return;
        this.#talk.say({ v: 1, t: "candidates", pc: mine, to: theirs, candidates }).catch((error: unknown) => {
          events.log("candidates", error instanceof Error ? error.message : "not sent");
        });
      },
      ice: (state) => {
        if (link !== this.#link) return;
        if (state !== "disconnected" && state !== "failed") return;
        events.down();
        void this.restart("ticket");
      },
      connection: (state) => {
        if (link !== this.#link) return;
        if (state === "connected") events.up();
        const { iceConnectionState: ice } = link.pc;
        if (state === "failed" && (ice === "connected" || ice === "completed")) events.unsecured();
      },
      remote: (stream) => events.remote(stream),
      log: (name, detail) => events.log(name, detail),
    });
    events.peerConnection(link.pc);
    return link;
  }

  /** Gathering starts here, and only after the server has said where to. */
  async #gather(link: Link, ice_servers: RTCIceServer[], description: RTCSessionDescriptionInit): Promise<void> {
    this.#ice_servers = ice_servers;
    link.servers(ice_servers);
    await link.pc.setLocalDescription(description);
  }

  #describe(t: "offer", { sdp }: RTCSessionDescriptionInit, n: number): Payload {
    const { mine } = this.#negotiation;
    return { v: 1, t, pc: mine, n, media: this.#options.media, sdp: sdp ?? "", sends: this.#sends };
  }

  #answer({ sdp }: RTCSessionDescriptionInit, to: string, n: number): Payload {
    return { v: 1, t: "answer", pc: this.#negotiation.mine, to, n, sdp: sdp ?? "", sends: this.#sends };
  }

  /** An error in what the other side said ends that negotiation, not the call. */
  async #queue(work: () => Promise<void>): Promise<void> {
    try {
      await this.#inTurn(async () => {
        if (!this.#ending.signal.aborted) await work();
      });
    } catch (error) {
      this.#options.events.log("negotiation", error instanceof Error ? error.message : "failed");
    }
  }

  /** One description at a time, in the order in which they came. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.then(
      () => undefined,
      () => undefined,
    );
    return done;
  }

  #check(): void {
    if (this.#ending.signal.aborted) throw aborted();
  }
}
