// How a screen looks where people look at it: on a desk and on two phones, light and dark. Takes the pictures, and says what
// does not fit.

import path from "node:path";
import type { Page } from "playwright-core";

/** A desk, a usual phone in the dark, and the smallest phone that is still about (the first iPhone SE). */
const LOOKS = [
  { name: "desk", colorScheme: "light", width: 1100, height: 760 },
  { name: "phone", colorScheme: "dark", width: 390, height: 844 },
  { name: "small", colorScheme: "light", width: 320, height: 568 },
] as const;

/** Pictures of the page as it is, `<folder>/<name>-<look>.png`, and then as it was before. Throws if something does not fit. */
export async function pictures(page: Page, folder: string, name: string): Promise<void> {
  const before = page.viewportSize();
  const wrong: string[] = [];
  const screen = (): Promise<string> => page.evaluate(() => JSON.stringify(document.querySelector<HTMLElement>("[data-screen]")?.dataset ?? {}));
  const wanted = await screen();
  for (const { name: look, colorScheme, width, height } of LOOKS) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    wrong.push(...(await page.evaluate(misfits)).map((what) => `${look}: ${what}`));
    await page.screenshot({ path: path.join(folder, `${name}-${look}.png`) });
    // Some go away by themselves: what came after is not what was meant.
    if ((await screen()) !== wanted) throw new Error(`${name} was gone before it was seen (${look})`);
  }
  await page.emulateMedia({ colorScheme: null });
  if (before !== null) await page.setViewportSize(before);
  if (wrong.length > 0) throw new Error(`${name} does not fit:\n${wrong.join("\n")}`);
}

/** Runs in the page. What a call is answered and ended with is in sight without scrolling, and under the finger. */
function misfits(): string[] {
  const wrong: string[] = [];
  const { scrollWidth } = document.documentElement;
  if (scrollWidth > innerWidth) wrong.push(`scrolls sideways: ${scrollWidth} of ${innerWidth}`);
  for (const one of document.querySelectorAll<HTMLElement>("button, input, a, h1, h2, p, li, strong, label")) {
    const { left, right, top, bottom, width } = one.getBoundingClientRect();
    if (width === 0) continue;
    const name = `${one.tagName} ${one.dataset["testid"] ?? one.textContent}`;
    const around = one.closest("dialog, .card, main")?.getBoundingClientRect() ?? { left: 0, right: innerWidth };
    if (left < Math.max(0, around.left) - 0.5 || right > Math.min(innerWidth, around.right) + 0.5) wrong.push(`${name} is cut off`);
    if (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline") wrong.push(`the words of ${name} do not fit`);
    if (one.closest(".bar") === null || document.querySelector("dialog[open]") !== null) continue;
    if (top < 0 || bottom > innerHeight) wrong.push(`${name} is out of sight`);
    else if (!one.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2))) wrong.push(`${name} is covered`);
  }
  return wrong;
}
