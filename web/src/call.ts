// One life of this tab in a call: peer connections, made and replaced as the handshake says, and their events.
// It touches WebRTC and decides nothing: handshake.ts decides, signaling.ts carries, the page shows.

import { ApiError, type DevApi, type Joined } from "./dev-api.ts";
import { type Action, Handshake, parseMessage } from "./handshake.ts";
import { CANDIDATES_HELD_MAX } from "./limits.ts";
import { Outbox, receive, type Route, skipBacklog } from "./signaling.ts";
import type { TandemEventType } from "./tandem";

export type CallState =
  | "waiting"
  | "connecting"
  | "connected"
  | "interrupted"
  | "failed"
  | "peer_left"
  | "call_gone";

export interface CallEvents {
  state(state: CallState): void;
  /** A fresh peer connection took the place of the one before, or of none. */
  peerConnection(pc: RTCPeerConnection): void;
  remoteStream(stream: MediaStream): void;
  log(type: TandemEventType, detail: string): void;
}

export class Call {
  readonly joined: Joined;
  readonly #api: DevApi;
  readonly #local: MediaStream;
  readonly #events: CallEvents;
  readonly #handshake: Handshake;
  readonly #ending = new AbortController();
  readonly #route: Route;
  readonly #outbox: Outbox;
  #pc: RTCPeerConnection | null = null;
  #held: RTCIceCandidateInit[] = [];

  constructor(api: DevApi, joined: Joined, local: MediaStream, events: CallEvents) {
    this.joined = joined;
    this.#api = api;
    this.#local = local;
    this.#events = events;
    this.#handshake = new Handshake(crypto.randomUUID(), joined.leg);
    this.#route = {
      api,
      call_id: joined.call_id,
      leg: joined.leg,
      signal: this.#ending.signal,
      onState: (state) =>
        events.log("signaling", state === "lost" ? "no answer, trying again" : "the server answers again"),
    };
    this.#outbox = new Outbox(this.#route);
  }

  get pc(): RTCPeerConnection | null {
    return this.#pc;
  }

  /** Runs until `end`, or until the server no longer knows the call. */
  async run(): Promise<void> {
    try {
      const after = await skipBacklog(this.#route);
      if (this.#ending.signal.aborted) return;
      this.#events.state("waiting");
      this.#send({ kind: "hello" });
      await receive(this.#route, after, async (item) => {
        const message = parseMessage(item.message);
        if (message === null) {
          this.#events.log("signaling", "a message that is none was ignored");
          return;
        }
        for (const action of this.#handshake.receive(message)) await this.#perform(action);
      });
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      const gone = error instanceof ApiError && error.status === 404;
      this.#events.log("signaling", gone ? "the server no longer knows this call" : String(error));
      this.#closePc();
      this.#events.state("call_gone");
    }
  }

  /** Hangs up. The other side is told even while the page goes away. */
  end(): void {
    if (this.#ending.signal.aborted) return;
    const { call_id, leg } = this.joined;
    this.#ending.abort();
    this.#api.sendLastSignal(call_id, leg, this.#handshake.address({ kind: "bye" }));
    this.#closePc();
  }

  #send(message: Parameters<Handshake["address"]>[0]): void {
    if (!this.#outbox.send(this.#handshake.address(message))) {
      this.#events.log("signaling", `the outbox is full; dropped: ${message.kind}`);
    }
  }

  /** An error in one action ends that negotiation, not the call: a fresh one may follow. */
  async #perform(action: Action): Promise<void> {
    try {
      switch (action.do) {
        case "ignore":
          return;
        case "greet":
          this.#send({ kind: "hello" });
          return;
        case "offer": {
          const pc = this.#freshPc();
          await pc.setLocalDescription();
          this.#sendDescription(pc, "offer");
          return;
        }
        case "answer": {
          const pc = this.#freshPc();
          await pc.setRemoteDescription({ type: "offer", sdp: action.sdp });
          await this.#releaseHeld(pc);
          await pc.setLocalDescription();
          this.#sendDescription(pc, "answer");
          return;
        }
        case "accept":
          if (this.#pc === null) return;
          await this.#pc.setRemoteDescription({ type: "answer", sdp: action.sdp });
          await this.#releaseHeld(this.#pc);
          return;
        case "add_candidate":
          await this.#addCandidate(action.candidate);
          return;
        case "peer_left":
          this.#events.log("negotiation", "the other side left");
          this.#closePc();
          this.#events.state("peer_left");
          return;
      }
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      this.#events.log("negotiation", `${action.do} failed: ${error instanceof Error ? error.message : "unknown"}`);
      this.#events.state("failed");
    }
  }

  #sendDescription(pc: RTCPeerConnection, kind: "offer" | "answer"): void {
    if (pc !== this.#pc) return;
    this.#send({ kind, round: this.#handshake.round, sdp: pc.localDescription?.sdp ?? "" });
    this.#watchPair(pc);
  }

  async #addCandidate(candidate: RTCIceCandidateInit): Promise<void> {
    if (this.#pc === null) return;
    if (this.#pc.remoteDescription !== null) return this.#pc.addIceCandidate(candidate);
    if (this.#held.length < CANDIDATES_HELD_MAX) this.#held.push(candidate);
    else this.#events.log("negotiation", "too many candidates before the answer; one dropped");
  }

  async #releaseHeld(pc: RTCPeerConnection): Promise<void> {
    for (const candidate of this.#held.splice(0)) await pc.addIceCandidate(candidate);
  }

  #freshPc(): RTCPeerConnection {
    this.#closePc();
    const pc = new RTCPeerConnection({
      iceServers: this.joined.ice_servers,
      iceTransportPolicy: "relay",
      bundlePolicy: "max-bundle",
    });
    this.#pc = pc;
    const { log } = this.#events;
    const round = this.#handshake.round;
    pc.addEventListener("icecandidate", ({ candidate }) => {
      // An empty candidate says "no more": nothing waits for it.
      if (candidate === null || candidate.candidate === "") return;
      if (pc === this.#pc) this.#send({ kind: "candidate", round, candidate: candidate.toJSON() });
    });
    pc.addEventListener("icecandidateerror", (e) => {
      log("icecandidateerror", `${e.errorCode} ${e.errorText} (${e.url})`);
    });
    pc.addEventListener("iceconnectionstatechange", () => log("iceconnectionstatechange", pc.iceConnectionState));
    pc.addEventListener("icegatheringstatechange", () => log("icegatheringstatechange", pc.iceGatheringState));
    pc.addEventListener("signalingstatechange", () => log("signalingstatechange", pc.signalingState));
    pc.addEventListener("connectionstatechange", () => {
      log("connectionstatechange", pc.connectionState);
      if (pc === this.#pc) this.#showState(pc.connectionState);
    });
    pc.addEventListener("track", ({ streams }) => {
      if (pc === this.#pc && streams[0] !== undefined) this.#events.remoteStream(streams[0]);
    });
    for (const track of this.#local.getTracks()) pc.addTrack(track, this.#local);
    this.#held = [];
    this.#events.peerConnection(pc);
    this.#events.state("connecting");
    return pc;
  }

  /** The transport is known once there is a local description. */
  #watchPair(pc: RTCPeerConnection): void {
    const ice = pc.getSenders()[0]?.transport?.iceTransport;
    ice?.addEventListener("selectedcandidatepairchange", () => {
      this.#events.log("selectedcandidatepairchange", "the selected pair changed");
    });
  }

  #showState(state: RTCPeerConnectionState): void {
    if (state === "connected") this.#events.state("connected");
    else if (state === "disconnected") this.#events.state("interrupted");
    else if (state === "failed") this.#events.state("failed");
  }

  #closePc(): void {
    this.#pc?.close();
    this.#pc = null;
    this.#held = [];
  }
}
