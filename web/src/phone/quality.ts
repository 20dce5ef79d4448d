// Decides how good a connection is, from two readings of its statistics. Pure; the bounds are those of ITU-T G.114 for the
// delay (150 ms one way unnoticed, 400 ms the most) and of Opus for loss (its concealment carries some 5 %).

import { lossIn } from "../stats.ts";
import type { Snapshot } from "../tandem";

export type Grade = "good" | "fair" | "poor";

export interface Quality {
  grade: Grade;
  rtt_ms: number | null;
  /** 0..1, since the reading before; the worse of both directions. */
  loss: number;
  /** The type of our candidate in the pair that is used. */
  pair: string | null;
}

export function quality(before: Snapshot | null, now: Snapshot): Quality {
  const total = lossIn(now);
  const earlier = before === null ? { lost: 0, of: 0 } : lossIn(before);
  const of = total.of - earlier.of;
  const lost_in = of > 0 ? Math.max(0, total.lost - earlier.lost) / of : 0;
  const loss = Math.max(lost_in, now.loss_out ?? 0);
  const rtt_ms = now.rtt_ms;
  return { grade: grade(rtt_ms ?? 0, loss), rtt_ms, loss, pair: now.pair?.split(" ")[0] ?? null };
}

function grade(rtt_ms: number, loss: number): Grade {
  if (rtt_ms > 800 || loss > 0.1) return "poor";
  return rtt_ms > 300 || loss > 0.03 ? "fair" : "good";
}
