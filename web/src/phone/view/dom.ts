// Makes elements. The smallest view layer that does: a screen is built once and its texts are written when they change.

type Child = Node | string;
type Attributes = Readonly<Record<string, string>>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes,
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function button(testid: string, text: string, look: string, pressed: () => void): HTMLButtonElement {
  const made = h("button", { type: "button", class: look, "data-testid": testid }, text);
  made.addEventListener("click", pressed);
  return made;
}

/** Unchanged text is left alone, so that a screen reader and a selection are not disturbed. */
export function write(target: Node, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

/** The first letter of a name in a disc: who it is, at a glance. */
export function avatar(name: string): HTMLElement {
  return h("div", { class: "avatar", "aria-hidden": "true" }, name.slice(0, 1).toUpperCase());
}
