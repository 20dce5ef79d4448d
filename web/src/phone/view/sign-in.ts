// Who are you.

import { failureWords } from "../words.ts";
import { h, write } from "./dom.ts";
import type { MakeScreen } from "./screen.ts";

/** As docs/api.md has it; the server has the last word. */
const ACCOUNT = "[A-Za-z0-9_\\-.@:+]{1,64}";

export const signIn: MakeScreen = (model, { happen }) => {
  const name = model.state.signing_in?.account ?? "";
  const account = h("input", {
    id: "account",
    "data-testid": "account",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    required: "",
    pattern: ACCOUNT,
    placeholder: "alice",
    value: name,
  });
  const submit = h("button", { type: "submit", class: "primary wide", "data-testid": "sign-in" }, "Sign in");
  const problem = h("p", { class: "problem", role: "alert", "data-testid": "problem" });
  const form = h("form", { class: "card" }, h("label", { for: "account" }, "Your name"), account, submit, problem);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    happen({ t: "sign_in", account: account.value.trim() });
  });
  const root = h(
    "main",
    { class: "narrow" },
    h("img", { src: "/icon.svg", alt: "", width: "64", height: "64", class: "mark" }),
    h("h1", {}, "Tandem"),
    h("p", { class: "lead" }, "A phone for trying out calls. Any name will do."),
    form,
    h("p", { class: "foot" }, h("a", { href: "/diagnostic.html", "data-testid": "diagnostic" }, "Diagnostic call")),
  );
  return {
    root,
    first: account,
    update({ state: { signing_in } }) {
      const busy = signing_in !== null && signing_in.failure === null;
      submit.disabled = busy;
      write(submit, busy ? "Signing in…" : "Sign in");
      write(problem, signing_in?.failure == null ? "" : failureWords(signing_in.failure));
      problem.hidden = problem.textContent === "";
    },
  };
};
