// Decides what to do with an offer or an answer (perfect negotiation, W3C WebRTC section 10.7), over reloads of either side.
// Pure; link.ts does it. The caller is impolite: when both offer at once, the caller's offer stands.
//
// Every peer connection has a name. A peer that was reloaded has a new one, so an offer of a name not known is answered
// with a new peer connection, and what was meant for an earlier one of ours is told so by a fresh offer.

/** An offer of ours that waits for an answer. */
export interface Outstanding {
  /** Its number: an answer names it, so that the answer to an earlier one is told apart. */
  n: number;
  /** The peer connection it is for; null: for whichever the other side has. */
  to: string | null;
}

export interface OfferHead {
  pc: string;
  to: string | null;
}

export interface AnswerHead {
  pc: string;
  to: string;
  n: number;
}

export type OfferVerdict =
  /** Ours stands; they drop theirs. */
  | "ignore"
  /** On the peer connection that is there. */
  | "answer"
  /** On a new peer connection. */
  | "answer_anew"
  /** It was for a peer connection that is gone: offer them the one that is there now. */
  | "offer_fresh";

export class Negotiation {
  /** The name of our peer connection. */
  readonly mine: string;
  readonly #polite: boolean;
  #theirs: string | null = null;
  #outstanding: Outstanding | null = null;
  #offers = 0;

  constructor(mine: string, polite: boolean) {
    this.mine = mine;
    this.#polite = polite;
  }

  /** The name of the other side's peer connection, once it is known. */
  get theirs(): string | null {
    return this.#theirs;
  }

  /** An offer of ours is being made; it takes the place of one that still waits. */
  offering(): Outstanding {
    this.#offers += 1;
    this.#outstanding = { n: this.#offers, to: this.#theirs };
    return this.#outstanding;
  }

  /** Was the offer not given up since, for one of theirs or a later one of ours? */
  stands(offer: Outstanding): boolean {
    return this.#outstanding === offer;
  }

  onOffer(offer: OfferHead): OfferVerdict {
    const ours = this.#outstanding;
    if (offer.to !== null && offer.to !== this.mine) return ours?.to === null ? "ignore" : "offer_fresh";
    const reaches = ours !== null && (ours.to === null || ours.to === offer.pc);
    if (reaches && !this.#polite) return "ignore";
    this.#outstanding = null;
    if (this.#theirs !== null && this.#theirs !== offer.pc) return "answer_anew";
    this.#theirs = offer.pc;
    return "answer";
  }

  /** Is it the answer to the offer of ours that waits? */
  onAnswer(answer: AnswerHead): boolean {
    const ours = this.#outstanding;
    if (ours === null || answer.to !== this.mine || answer.n !== ours.n) return false;
    this.#outstanding = null;
    this.#theirs = answer.pc;
    return true;
  }

  /** Are the candidates for our peer connection, of the one that it talks to? */
  takes(candidates: { pc: string; to: string }): boolean {
    return candidates.to === this.mine && (this.#theirs === null || this.#theirs === candidates.pc);
  }
}
