// One turn as an element: who said it, what was said, how it went, and what can be done with it.

import { el } from "./dom.js";
import { codeBlock, copied, render } from "./markdown.js";
import { textOf } from "./tree.js";

const ENDINGS = {
  stopped: "Stopped.", cancelled: "Stopped.", interrupted: "Interrupted: the page was left while it was written.",
  length: "Cut: the answer reached the most tokens it may have.", deadline: "Cut: the answer took too long.",
};
const TOOLS = { python: "Calculator, asked", python_output: "Calculator, answered" };

export function message(node, branch, actions) {
  const body = el("div", { class: "body" });
  const article = el("article", { class: `turn ${node.role}`, "data-id": node.id, "aria-label": label(node) },
    el("header", {}, el("span", { class: "who" }, node.role === "user" ? "You" : node.model || "Model")),
    body, el("footer", {}),
  );
  fill(article, node);
  article.querySelector("footer").append(buttons(node, branch, actions));
  return article;
}

const label = (node) => (node.role === "user" ? "You" : `Answer of ${node.model || "the model"}`);

// Write what the turn says now into its element, and nothing else.
export function fill(article, node) {
  const writing = node.finish === "writing";
  const body = article.querySelector(".body");
  article.setAttribute("aria-busy", writing);
  if (node.role === "user") {
    body.replaceChildren(el("p", { class: "said" }, textOf(node.parts)));
    return;
  }
  const parts = node.parts.map((part) =>
    part.type === "text" ? render(part.text) : el("div", { class: `tool ${part.type}` }, codeBlock(part.text, TOOLS[part.type])),
  );
  if (writing && !node.parts.length) parts.push(el("p", { class: "dots", "aria-label": "waiting" }, el("i"), el("i"), el("i")));
  if (!writing && !node.parts.length && !node.error) parts.push(el("p", { class: "soft" }, "(an empty answer)"));
  const scrolled = [...body.querySelectorAll("pre")].map((code) => code.scrollLeft);
  body.replaceChildren(...parts);
  [...body.querySelectorAll("pre")].forEach((code, number) => (code.scrollLeft = scrolled[number] ?? 0));
  body.append(...notices(node));
}

function notices(node) {
  const dropped = node.stats?.messages_dropped;
  return [
    node.error ? el("p", { class: "wrong", role: "alert" }, node.error) : null,
    ENDINGS[node.finish] ? el("p", { class: "notice" }, ENDINGS[node.finish]) : null,
    dropped
      ? el("p", { class: "notice" }, `The context is full: the ${dropped === 1 ? "oldest message" : `${dropped} oldest messages`} could not be sent along.`)
      : null,
  ].filter(Boolean);
}

function buttons(node, { number, of }, actions) {
  const button = (key, text, act, properties = {}) =>
    el("button", { type: "button", class: "quiet", "data-key": `${node.parent} ${key}`, onclick: act, ...properties }, text);
  const bar = el("div", { class: "bar" });
  if (of > 1) {
    bar.append(
      el("span", { class: "branches", role: "group", "aria-label": "Versions" },
        button("before", "‹", () => actions.turn(node, -1), { "aria-label": "Version before", disabled: number === 1 }),
        el("span", { "aria-label": `Version ${number} of ${of}` }, `${number}/${of}`),
        button("next", "›", () => actions.turn(node, 1), { "aria-label": "Next version", disabled: number === of }),
      ),
    );
  }
  if (node.finish === "writing") return bar;
  if (node.role === "user") bar.append(button("edit", "Edit", () => actions.edit(node)));
  else bar.append(button("again", node.error ? "Try again" : "Regenerate", () => actions.regenerate(node)));
  const copy = button("copy", "Copy", () => copied(copy, textOf(node.parts.filter((part) => part.type === "text"))));
  if (node.parts.length) bar.append(copy);
  if (node.role === "assistant") bar.append(...statistics(node.stats ?? {}));
  return bar;
}

function statistics(stats) {
  const said = [];
  if (stats.tokens_per_second > 0) said.push(`${stats.tokens_per_second.toFixed(stats.tokens_per_second < 10 ? 1 : 0)} tokens/s`);
  if (stats.first_token_s >= 0) said.push(`first after ${stats.first_token_s.toFixed(2)} s`);
  const used = stats.context_tokens > 0 && stats.context_used >= 0;
  if (used) said.push(`context ${stats.context_used} of ${stats.context_tokens}`);
  if (!said.length) return [];
  const meter = used
    ? [el("meter", { min: 0, max: stats.context_tokens, high: 0.85 * stats.context_tokens, value: stats.context_used, "aria-label": "Context used" })]
    : [];
  return [el("span", { class: "stats" }, said.join(" · ")), ...meter];
}

// The element of a turn of ours while it is changed.
export function editor(node, { send, cancel }) {
  const field = el("textarea", { rows: 3, "aria-label": "Your message" });
  field.value = textOf(node.parts);
  const form = el("form", { class: "editor" }, field,
    el("div", { class: "bar" }, el("button", { class: "primary" }, "Send"), el("button", { type: "button", onclick: cancel }, "Cancel"),
      el("span", { class: "stats" }, "Sending begins a new branch; the old one stays."),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) send(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      cancel();
    }
  });
  return form;
}
