// Decides what each signaling message means: who the other tab is, who offers, and what is late and ignored.
// Pure; the peer connection and the network are call.ts and signaling.ts.
//
// Each press on Connect is one life of a tab with a fresh random name. A life greets ("hello"), and answers the
// greeting of a life it did not know. Leg 1 then offers. So either may come first, and a tab that was reloaded
// is a new life to the other, which starts over with a fresh peer connection.

import { FORMER_PEERS_MAX } from "./limits.ts";
import { Capped } from "./capped.ts";

interface Envelope {
  /** The sender's life. */
  from: string;
  /** The life it is meant for; null for whoever is there. */
  to: string | null;
  /** Counts the sender's messages, so that one sent twice after a network error counts once. */
  n: number;
}

export type Message = Envelope &
  (
    | { kind: "hello" }
    | { kind: "bye" }
    | { kind: "offer"; round: number; sdp: string }
    | { kind: "answer"; round: number; sdp: string }
    | { kind: "candidate"; round: number; candidate: RTCIceCandidateInit }
  );

/** A message before it is addressed. */
export type Outgoing = Message extends infer M ? (M extends Envelope ? Omit<M, keyof Envelope> : never) : never;

export type Action =
  /** Nothing to do: late, doubled, or known. */
  | { do: "ignore" }
  /** Tell the other life that we are here; it did not know. */
  | { do: "greet" }
  /** Start over with a fresh peer connection and offer it. */
  | { do: "offer" }
  /** Start over with a fresh peer connection and answer. */
  | { do: "answer"; sdp: string }
  | { do: "accept"; sdp: string }
  | { do: "add_candidate"; candidate: RTCIceCandidateInit }
  | { do: "peer_left" };

export class Handshake {
  readonly me: string;
  readonly leg: number;
  #peer: string | null = null;
  #peerNewest = -1;
  #round = 0;
  #sent = 0;
  readonly #former = new Capped<string>(FORMER_PEERS_MAX);

  constructor(me: string, leg: number) {
    this.me = me;
    this.leg = leg;
  }

  get peer(): string | null {
    return this.#peer;
  }

  /** The negotiation that is going on; leg 1 counts it up with each offer. */
  get round(): number {
    return this.#round;
  }

  /** Addresses a message to the other life, or to whoever comes if there is none yet. */
  address(message: Outgoing): Message {
    this.#sent += 1;
    return { ...message, from: this.me, to: this.#peer, n: this.#sent };
  }

  receive(message: Message): Action[] {
    if (message.from === this.me) return IGNORE;
    if (message.to !== null && message.to !== this.me) return IGNORE;
    if (this.#former.items.includes(message.from)) return IGNORE;
    const known = message.from === this.#peer;
    if (known && message.n <= this.#peerNewest) return IGNORE;

    switch (message.kind) {
      case "hello": {
        if (known) break;
        this.#adopt(message.from);
        const actions: Action[] = message.to === null ? [{ do: "greet" }] : [];
        if (this.leg === 1) {
          this.#round += 1;
          actions.push({ do: "offer" });
        }
        this.#peerNewest = message.n;
        return actions.length === 0 ? IGNORE : actions;
      }
      case "offer":
        if (this.leg === 1) break;
        if (!known) this.#adopt(message.from);
        this.#peerNewest = message.n;
        this.#round = message.round;
        return [{ do: "answer", sdp: message.sdp }];
      case "answer":
        if (!known || this.leg !== 1 || message.round !== this.#round) break;
        this.#peerNewest = message.n;
        return [{ do: "accept", sdp: message.sdp }];
      case "candidate":
        if (!known || message.round !== this.#round) break;
        this.#peerNewest = message.n;
        return [{ do: "add_candidate", candidate: message.candidate }];
      case "bye":
        if (!known) break;
        this.#former.push(message.from);
        this.#peer = null;
        return [{ do: "peer_left" }];
    }
    if (known) this.#peerNewest = message.n;
    return IGNORE;
  }

  #adopt(peer: string): void {
    if (this.#peer !== null) this.#former.push(this.#peer);
    this.#peer = peer;
    this.#peerNewest = -1;
  }
}

const IGNORE: Action[] = [{ do: "ignore" }];

/** What came over the network, if it is a message; null if it is anything else. */
export function parseMessage(value: unknown): Message | null {
  if (typeof value !== "object" || value === null) return null;
  const m = value as Record<string, unknown>;
  if (typeof m["from"] !== "string" || typeof m["n"] !== "number") return null;
  if (m["to"] !== null && typeof m["to"] !== "string") return null;
  const envelope: Envelope = { from: m["from"], to: m["to"], n: m["n"] };
  switch (m["kind"]) {
    case "hello":
    case "bye":
      return { ...envelope, kind: m["kind"] };
    case "offer":
    case "answer":
      if (typeof m["round"] !== "number" || typeof m["sdp"] !== "string") return null;
      return { ...envelope, kind: m["kind"], round: m["round"], sdp: m["sdp"] };
    case "candidate": {
      const candidate = m["candidate"];
      if (typeof m["round"] !== "number" || typeof candidate !== "object" || candidate === null) return null;
      return { ...envelope, kind: "candidate", round: m["round"], candidate };
    }
    default:
      return null;
  }
}
