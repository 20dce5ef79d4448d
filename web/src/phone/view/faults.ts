// The fault panel: a tab at the upper edge opens a list of the processes that stays beside the screen, whatever screen it
// is, and takes nothing away from a call.

import type { Process } from "../../dev-api.ts";
import { type Faults, lineOf, type Order } from "../faults.ts";
import { button, h, write } from "./dom.ts";

export interface FaultActions {
  open(): void;
  close(): void;
  order(name: string, order: Order, away_ms: number): void;
}

export interface FaultPanel {
  /** The tab, and the panel that it opens: in this order, behind everything else. */
  nodes: readonly HTMLElement[];
  update(faults: Faults): void;
}

/** How long a process that is killed stays away. */
const AWAY: readonly { ms: number; text: string }[] = [
  { ms: 0, text: "at once" },
  { ms: 5_000, text: "after 5 s" },
  { ms: 30_000, text: "after 30 s" },
];

export function faultPanel(actions: FaultActions): FaultPanel {
  const tab = button("faults-tab", "Faults", "faults-tab", () => (panel.hidden ? open() : close()));
  tab.setAttribute("aria-controls", "faults");
  const heading = h("h2", { id: "faults-of", tabindex: "-1" }, "Processes");
  const shut = button("faults-close", "Close", "small", close);
  const away = h("select", { id: "faults-away", "data-testid": "faults-away" });
  away.append(...AWAY.map(({ ms, text }) => h("option", { value: String(ms) }, text)));
  const list = h("ul", { class: "processes", "data-testid": "processes" });
  const note = h("p", { class: "faults-note", role: "status", "data-testid": "faults-note" });
  const panel = h(
    "aside",
    { class: "faults", id: "faults", "aria-labelledby": "faults-of", "data-testid": "faults" },
    h("div", { class: "faults-head" }, heading, shut),
    h("p", { class: "faults-away" }, h("label", { for: "faults-away" }, "What is killed comes back"), away),
    note,
    list,
  );

  function open(): void {
    show(true);
    heading.focus({ preventScroll: true });
    actions.open();
  }

  function close(): void {
    show(false);
    tab.focus({ preventScroll: true });
    actions.close();
  }

  function show(on: boolean): void {
    panel.hidden = !on;
    tab.setAttribute("aria-expanded", String(on));
    // Where there is room the screen makes room: nothing of it is covered.
    document.body.classList.toggle("beside-faults", on);
  }

  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
  });
  show(false);

  const rows = new Map<string, Row>();
  const order = (name: string, what: Order): void => actions.order(name, what, Number(away.value));
  return {
    nodes: [tab, panel],
    update({ processes, note: said }) {
      write(note, said);
      note.hidden = said === "";
      for (const process of processes ?? []) {
        let row = rows.get(process.name);
        if (row === undefined) {
          row = rowOf(process.name, order);
          rows.set(process.name, row);
          list.append(row.root);
        }
        row.update(process);
      }
    },
  };
}

interface Row {
  root: HTMLLIElement;
  update(process: Process): void;
}

function rowOf(name: string, order: (name: string, what: Order) => void): Row {
  const text = h("span", {});
  let second: Order | null = null;
  const kill = button(`kill-${name}`, "Kill", "small", () => {
    if (on(kill)) order(name, "kill");
  });
  const other = button(`pause-${name}`, "Pause", "small", () => {
    if (on(other) && second !== null) order(name, second);
  });
  kill.setAttribute("aria-label", `Kill ${name}`);
  const root = h("li", { "data-name": name }, h("strong", {}, name), text, kill, other);
  return {
    root,
    update(process) {
      const line = lineOf(process);
      root.dataset["tone"] = line.tone;
      root.dataset["state"] = process.state;
      write(text, line.text);
      second = line.second;
      const word = second === "resume" ? "Resume" : "Pause";
      write(other, word);
      other.setAttribute("aria-label", `${word} ${name}`);
      enable(kill, line.kill);
      enable(other, second !== null);
    },
  };
}

/** A button that is disabled as such would lose the focus, and with it the place of someone on a keyboard. */
function enable(target: HTMLButtonElement, able: boolean): void {
  target.setAttribute("aria-disabled", String(!able));
}

function on(target: HTMLButtonElement): boolean {
  return target.getAttribute("aria-disabled") !== "true";
}
