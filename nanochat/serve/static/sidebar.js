// The list of chats that this browser keeps.

import { el, find } from "./dom.js";

export class Sidebar {
  // actions: {open(chat), remove(chat)}
  constructor(actions) {
    this.list = find("chats");
    this.actions = actions;
    this.toggle = find("show-chats");
    this.toggle.addEventListener("click", () => this.shown(this.toggle.getAttribute("aria-expanded") !== "true"));
  }

  shown(yes) {
    this.toggle.setAttribute("aria-expanded", yes);
    find("sidebar").classList.toggle("shown", yes);
  }

  // Only what has changed is made anew, and the focus stays where it was, or next to it.
  draw(chats, current) {
    this.chats = chats;
    const shown = JSON.stringify([current.id, ...chats.map((chat) => [chat.id, chat.title])]);
    if (shown === this.drawn) return;
    this.drawn = shown;
    const act = (id, name) => () => this.actions[name](this.chats.find((chat) => chat.id === id));
    const focused = [...this.list.querySelectorAll("button")].indexOf(document.activeElement);
    const key = document.activeElement?.dataset.chat;
    const rows = chats.map((chat) =>
      el("li", {},
        el("button", { type: "button", class: "chat-name", "data-chat": `open ${chat.id}`, "aria-current": chat.id === current.id ? "true" : null,
          onclick: act(chat.id, "open") }, chat.title || "New chat"),
        el("button", { type: "button", class: "quiet", "data-chat": `remove ${chat.id}`, "aria-label": `Delete ${chat.title || "this chat"}`, title: "Delete",
          onclick: act(chat.id, "remove") }, "×"),
      ),
    );
    this.list.replaceChildren(...(rows.length ? rows : [el("li", { class: "soft" }, "None yet.")]));
    if (focused < 0) return;
    const buttons = [...this.list.querySelectorAll("button")];
    (buttons.find((button) => button.dataset.chat === key) ?? buttons[focused] ?? buttons.at(-1) ?? find("new")).focus();
  }
}
