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

  draw(chats, current) {
    const rows = chats.map((chat) =>
      el("li", {},
        el("button", { type: "button", class: "chat-name", "aria-current": chat.id === current.id ? "true" : null,
          onclick: () => this.actions.open(chat) }, chat.title || "New chat"),
        el("button", { type: "button", class: "quiet", "aria-label": `Delete ${chat.title || "this chat"}`, title: "Delete",
          onclick: () => this.actions.remove(chat) }, "×"),
      ),
    );
    this.list.replaceChildren(...(rows.length ? rows : [el("li", { class: "soft" }, "None yet.")]));
  }
}
