// What is measured rather than tested: run apart, on a machine of its own. It prints a table, and a breach is no failure.
import { mergeConfig } from "vitest/config";
import base from "./vitest.config.ts";

const measure = mergeConfig(base, {});
measure.test = {
  ...measure.test,
  include: ["src/**/*.measure.ts"],
  testTimeout: 3_600_000,
  reporters: ["dot"],
  disableConsoleIntercept: true,
};
export default measure;
