import { expect, test } from "vitest";
import { Capped } from "./capped.ts";

test("the newest are kept and the dropped are counted", () => {
  const list = new Capped<number>(3);
  for (const n of [1, 2, 3, 4, 5]) list.push(n);
  expect(list.items).toEqual([3, 4, 5]);
  expect(list.last).toBe(5);
  expect(list.dropped).toBe(2);
  list.clear();
  expect(list.items).toEqual([]);
  expect(list.dropped).toBe(0);
});
