// One peer connection: its transceivers, its candidates in batches, its states. It touches WebRTC; in which order and with
// whom is line.ts, and what to do about two offers negotiation.ts.

import { CANDIDATES_FLUSH_MS, CANDIDATES_HELD_MAX } from "./limits.ts";
import type { Media } from "./wire.ts";

export interface LinkEvents {
  /** A batch of our candidates. Called only after `release`. */
  candidates(batch: RTCIceCandidateInit[]): void;
  ice(state: RTCIceConnectionState): void;
  /** Of ICE and of DTLS on it: "connected" once the other side has shown the certificate that its description names. */
  connection(state: RTCPeerConnectionState): void;
  remote(stream: MediaStream): void;
  log(name: string, detail: string): void;
}

export class Link {
  readonly pc: RTCPeerConnection;
  readonly #policy: RTCIceTransportPolicy;
  readonly #events: LinkEvents;
  readonly #remote = new MediaStream();
  #out: RTCIceCandidateInit[] = [];
  #in: RTCIceCandidateInit[] = [];
  #released = false;
  #flush: ReturnType<typeof setTimeout> | null = null;

  constructor(policy: RTCIceTransportPolicy, events: LinkEvents) {
    this.#policy = policy;
    this.#events = events;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceTransportPolicy: policy });
    const { pc } = this;
    pc.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate !== null && candidate.candidate !== "") this.#out.push(candidate.toJSON());
      this.#schedule(candidate === null);
    });
    pc.addEventListener("icecandidateerror", ({ errorCode, errorText }) => {
      events.log("icecandidateerror", `${errorCode} ${errorText}`);
    });
    pc.addEventListener("iceconnectionstatechange", () => {
      events.log("ice", pc.iceConnectionState);
      events.ice(pc.iceConnectionState);
    });
    pc.addEventListener("connectionstatechange", () => {
      events.log("connection", pc.connectionState);
      events.connection(pc.connectionState);
    });
    pc.addEventListener("track", ({ track }) => {
      this.#remote.addTrack(track);
      events.remote(this.#remote);
    });
  }

  servers(ice_servers: RTCIceServer[]): void {
    this.pc.setConfiguration({
      iceServers: ice_servers,
      iceTransportPolicy: this.#policy,
      bundlePolicy: "max-bundle",
    });
  }

  /** Before an offer: a line each for what the call is about. What is not sent now can be sent later without an offer. */
  async prepare(media: Media, local: MediaStream): Promise<void> {
    this.pc.addTransceiver("audio", { direction: "sendrecv" });
    if (media === "video") this.pc.addTransceiver("video", { direction: "sendrecv" });
    await this.send(local);
  }

  /** After their offer: the same for its lines. */
  async prepareAnswer(local: MediaStream): Promise<void> {
    for (const line of this.pc.getTransceivers()) line.direction = "sendrecv";
    await this.send(local);
  }

  /** From now on these tracks are sent, and nothing where there is none. */
  async send(local: MediaStream): Promise<void> {
    for (const line of this.pc.getTransceivers()) {
      const track = local.getTracks().find(({ kind }) => kind === line.receiver.track.kind) ?? null;
      if (line.sender.track !== track) await line.sender.replaceTrack(track);
    }
  }

  async remoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
    await this.pc.setRemoteDescription(description);
    for (const candidate of this.#in.splice(0)) await this.#add(candidate);
  }

  async take(candidates: readonly RTCIceCandidateInit[]): Promise<void> {
    for (const candidate of candidates) {
      if (this.pc.remoteDescription !== null) await this.#add(candidate);
      else if (this.#in.length < CANDIDATES_HELD_MAX) this.#in.push(candidate);
      else this.#events.log("candidate", "dropped: too many before the description");
    }
  }

  /** It is known now who gets our candidates: those held go out, and those to come. */
  release(): void {
    this.#released = true;
    this.#schedule(this.pc.iceGatheringState === "complete");
  }

  close(): void {
    if (this.#flush !== null) clearTimeout(this.#flush);
    this.#released = false;
    this.pc.close();
  }

  /** One of an earlier generation is refused by the browser; the others still do. */
  async #add(candidate: RTCIceCandidateInit): Promise<void> {
    try {
      await this.pc.addIceCandidate(candidate);
    } catch (error) {
      this.#events.log("candidate", error instanceof Error ? error.message : "refused");
    }
  }

  #schedule(now: boolean): void {
    if (!this.#released || this.#out.length === 0) return;
    if (now) this.#emit();
    else this.#flush ??= setTimeout(() => this.#emit(), CANDIDATES_FLUSH_MS);
  }

  #emit(): void {
    if (this.#flush !== null) clearTimeout(this.#flush);
    this.#flush = null;
    if (this.#out.length > 0) this.#events.candidates(this.#out.splice(0));
  }
}
