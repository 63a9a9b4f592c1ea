// One column of the chat: a model, the tree of a conversation, and the answer that is being written.

import { ApiError, chat } from "./api.js";
import { el } from "./dom.js";
import { editor, fill, message } from "./message.js";

const SAVE_MS = 700;

export class Pane {
  // host: {settings, changed(), say(text), isLeaving()}; changed is told after everything that should be kept.
  constructor(element, host) {
    this.log = element.querySelector(".log");
    this.picker = element.querySelector("select");
    this.host = host;
    this.running = null;
    this.picker.addEventListener("change", () => {
      this.state.model = this.picker.value;
      host.changed();
    });
  }

  get isWriting() {
    return this.running !== null;
  }

  get isEditing() {
    return this.log.querySelector(".editor") !== null;
  }

  show(state) {
    this.stop();
    this.state = state;
    for (const form of this.log.querySelectorAll(".editor")) form.remove();
    this.pick();
    this.draw();
    this.down(true);
  }

  // The models to choose among; one that is not there any more stays chosen, and says so.
  offer(models) {
    this.models = models;
    this.pick();
  }

  pick() {
    if (!this.state || !this.models) return;
    const options = this.models.map((model) => {
      const aliases = model.nanochat?.aliases ?? [];
      return el("option", { value: model.id }, aliases.length ? `${model.id} (${aliases.join(", ")})` : model.id);
    });
    const known = this.models.some((model) => model.id === this.state.model);
    if (!known && this.state.model) options.unshift(el("option", { value: this.state.model }, `${this.state.model} (not here)`));
    this.picker.replaceChildren(...options);
    this.state.model ||= this.models[0]?.id ?? "";
    this.picker.value = this.state.model;
    this.picker.disabled = options.length === 0;
  }

  // All turns that are shown; one that is being edited stays as it is.
  draw() {
    const active = document.activeElement;
    const focused = active?.dataset?.key;
    const editors = [...this.log.querySelectorAll(".editor")].map((form) => [form, form.parentElement.dataset.id]);
    const tree = this.state.tree;
    const actions = {
      turn: (node, by) => {
        this.stop();
        tree.turn(node, by);
        this.draw();
        this.host.changed();
      },
      edit: (node) => this.edit(node),
      regenerate: (node) => this.answer(tree.parentOf(node)),
    };
    this.log.replaceChildren(...tree.path().map((node) => message(node, tree.branch(node), actions)));
    for (const [form, id] of editors) this.article(id)?.replaceChildren(form);
    if (editors.some(([form]) => form.contains(active))) active.focus();
    if (focused) {
      const again = [...this.log.querySelectorAll("[data-key]")].find((button) => button.dataset.key === focused);
      (again?.disabled ? again.parentElement.querySelector("button:enabled") : again)?.focus();
    }
  }

  ask(text) {
    this.stop();
    const tree = this.state.tree;
    return this.answer(tree.add(tree.leaf, "user", { parts: [{ type: "text", text }] }));
  }

  edit(node) {
    this.stop();
    const tree = this.state.tree;
    const form = editor(node, {
      send: (text) => {
        form.remove();
        this.answer(tree.add(tree.parentOf(node), "user", { parts: [{ type: "text", text }] }));
      },
      cancel: () => {
        form.remove();
        this.draw();
        this.article(node.id)?.querySelector('[data-key$=" edit"]')?.focus();
      },
    });
    this.article(node.id).replaceChildren(form);
    form.querySelector("textarea").focus();
  }

  article(id) {
    return this.log.querySelector(`[data-id="${id}"]`);
  }

  // Write one more answer to a question. Ends when it is written, stopped or has failed.
  async answer(question) {
    this.stop();
    const { tree, model } = this.state;
    const node = tree.add(question, "assistant", { model, finish: "writing", stats: {} });
    const running = (this.running = new AbortController());
    this.node = node;
    this.draw();
    this.down(true);
    this.host.changed();
    try {
      const system = this.host.settings.values.system.trim();
      const messages = [...(system ? [{ role: "system", content: system }] : []), ...tree.messages(question)];
      for await (const piece of chat({ ...this.host.settings.request(), model, messages }, running.signal)) {
        this.take(node, piece);
      }
      if (node.finish === "writing") node.finish = "interrupted";
    } catch (error) {
      if (this.host.isLeaving()) return; // it is kept as it is: being written
      node.finish = error.name === "AbortError" ? "stopped" : "failed";
      if (node.finish === "failed") node.error = error instanceof ApiError ? error.message : "The server cannot be reached.";
    }
    if (this.running === running) this.running = null;
    clearTimeout(this.painting);
    this.painting = null;
    if (this.state.tree !== tree) return; // another chat is open
    this.draw();
    this.down();
    this.host.changed();
    this.host.say(node.error ?? (node.finish === "stopped" ? "Stopped." : "The answer is complete."));
  }

  take(node, { text, tool, finish, stats }) {
    if (finish) Object.assign(node, { finish, stats });
    const piece = tool ?? (text ? { type: "text", text } : null);
    if (!piece) return;
    const last = node.parts.at(-1);
    if (last?.type === piece.type) last.text += piece.text;
    else node.parts.push({ type: piece.type, text: piece.text });
    this.paint(node);
  }

  // Show what was written so far, often enough and no oftener; and keep it now and then.
  paint(node) {
    this.painting ??= setTimeout(() => {
      this.painting = null;
      const article = this.article(node.id);
      const begun = performance.now();
      if (article) fill(article, node);
      this.pace = Math.max(40, 4 * (performance.now() - begun));
      this.down();
      if (begun - (this.saved ?? 0) > SAVE_MS) {
        this.saved = begun;
        this.host.changed();
      }
    }, this.pace ?? 0);
  }

  stop() {
    this.running?.abort();
    if (this.running && this.node.finish === "writing") this.node.finish = "stopped";
    this.running = null;
  }

  // To the newest line, unless one reads further up.
  down(always = false) {
    const page = this.log.parentElement;
    const gap = page.scrollHeight - page.scrollTop - page.clientHeight;
    if (always || gap < 160) page.scrollTop = page.scrollHeight;
  }
}
