// One browser call at a time: two tabs take half the machine, and a neighbour would show up as a gap.
// No retries: a call that fails one time in ten has a fault that the report should show.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts"],
    fileParallelism: false,
    retry: 0,
    bail: 0,
    testTimeout: 120_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    reporters: ["verbose"],
  },
});
