import { expect, test } from "vitest";
import { reason } from "./camera.ts";

test("every refusal tells what to do next", () => {
  for (const name of ["NotAllowedError", "NotFoundError", "OverconstrainedError", "NotReadableError", "AbortError", "SomethingNew"]) {
    expect(reason(name)).toMatch(/press Connect|Press Connect/);
  }
});
