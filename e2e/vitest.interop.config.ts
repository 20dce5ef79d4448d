// Calls between different browsers, run apart: they need Firefox.
import { mergeConfig } from "vitest/config";
import base from "./vitest.config.ts";

const interop = mergeConfig(base, {});
interop.test = { ...interop.test, include: ["src/**/*.interop.ts"] };
export default interop;
