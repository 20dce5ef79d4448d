import { expect, test } from "vitest";
import { clock, gap, ms, NONE, rate, share } from "./format.ts";

test("rates, times and shares are written for people", () => {
  expect([rate(null), rate(86_400), rate(1_234_000)]).toEqual([NONE, "86 kbit/s", "1.23 Mbit/s"]);
  expect([ms(null), ms(3.21), ms(4), ms(540.4), ms(12_340)]).toEqual([NONE, "3.2 ms", "4 ms", "540 ms", "12.3 s"]);
  expect([share(null), share(0.0123)]).toEqual([NONE, "1.2 %"]);
});

test("a gap that goes on says so, but the pause between two packets does not", () => {
  const open = { from_ms: 0, to_ms: 0, open: true };
  expect(gap({ ...open, gap_ms: 18 })).toBe("18 ms");
  expect(gap({ ...open, gap_ms: 5_000 })).toBe("5000 ms and going on");
  expect(gap({ ...open, gap_ms: 540, open: false })).toBe("540 ms");
  expect(gap(null)).toBe(NONE);
});

test("an event's time shows milliseconds", () => {
  expect(clock(new Date(2026, 10, 24, 9, 5, 7, 81).getTime())).toBe("09:05:07.081");
});
