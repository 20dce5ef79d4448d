import { describe, expect, it } from "vitest";
import { Negotiation } from "./negotiation.ts";

/** Two that talk: A called B. */
function pair(): { a: Negotiation; b: Negotiation } {
  const a = new Negotiation("a1", false);
  const b = new Negotiation("b1", true);
  const first = a.offering();
  b.onOffer({ pc: "a1", to: null });
  a.onAnswer({ pc: "b1", to: "a1", n: first.n });
  return { a, b };
}

describe("negotiation", () => {
  it("learns the names of both sides from the first offer and answer", () => {
    const { a, b } = pair();
    expect([a.theirs, b.theirs]).toEqual(["b1", "a1"]);
  });

  it("lets the caller's offer stand when both offer at once", () => {
    const { a, b } = pair();
    const of_a = a.offering();
    const of_b = b.offering();
    expect(a.onOffer({ pc: "b1", to: "a1" })).toBe("ignore");
    expect(b.onOffer({ pc: "a1", to: "b1" })).toBe("answer");
    expect(b.stands(of_b)).toBe(false);
    expect(a.onAnswer({ pc: "b1", to: "a1", n: of_a.n })).toBe(true);
  });

  it("answers a reloaded peer with a new peer connection, even while an offer for its former one waits", () => {
    const { a } = pair();
    a.offering();
    expect(a.onOffer({ pc: "b2", to: null })).toBe("answer_anew");
  });

  it("ends in one session when both were reloaded", () => {
    const a = new Negotiation("a2", false);
    const b = new Negotiation("b2", true);
    const of_a = a.offering();
    b.offering();
    expect(a.onOffer({ pc: "b2", to: null })).toBe("ignore");
    expect(b.onOffer({ pc: "a2", to: null })).toBe("answer");
    expect(a.onAnswer({ pc: "b2", to: "a2", n: of_a.n })).toBe(true);
  });

  it("offers anew to whoever offers to a peer connection that is gone", () => {
    const a = new Negotiation("a2", false);
    expect(a.onOffer({ pc: "b1", to: "a1" })).toBe("offer_fresh");
    a.offering();
    expect(a.onOffer({ pc: "b1", to: "a1" })).toBe("ignore");
  });

  it("does not take the answer to an earlier offer for that to a later one", () => {
    const { a } = pair();
    const first = a.offering();
    const second = a.offering();
    expect(a.onAnswer({ pc: "b1", to: "a1", n: first.n })).toBe(false);
    expect(a.onAnswer({ pc: "b1", to: "a1", n: second.n })).toBe(true);
  });

  it("takes candidates for its own peer connection only, from the one it talks to", () => {
    const { a } = pair();
    expect(a.takes({ pc: "b1", to: "a1" })).toBe(true);
    expect(a.takes({ pc: "b1", to: "a0" })).toBe(false);
    expect(a.takes({ pc: "b0", to: "a1" })).toBe(false);
  });
});
