import { expect, test } from "vitest";
import { session, type Surroundings } from "./session.ts";

function tab(kept: string | null, takenElsewhere: readonly string[] = []): Surroundings & { stored(): string | null } {
  let value = kept;
  return {
    storage: { getItem: () => value, setItem: (_key, v) => void (value = v) },
    uuid: () => "fresh",
    claim: (name) => Promise.resolve(!takenElsewhere.includes(name)),
    stored: () => value,
  };
}

test("a new tab draws a session and keeps it", async () => {
  const t = tab(null);
  expect(await session(t)).toBe("fresh");
  expect(t.stored()).toBe("fresh");
});

test("a reloaded tab is the same session", async () => {
  expect(await session(tab("kept"))).toBe("kept");
});

test("a duplicated tab, whose session lives elsewhere, gets its own", async () => {
  const t = tab("kept", ["kept"]);
  expect(await session(t)).toBe("fresh");
  expect(t.stored()).toBe("fresh");
});
