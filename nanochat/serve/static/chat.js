// The chat page: what is typed, which conversation is open, and what is kept.

import { models } from "./api.js";
import { command } from "./commands.js";
import { el, find } from "./dom.js";
import { Pane } from "./pane.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import * as storage from "./storage.js";
import { Tree, textOf } from "./tree.js";

const prompt = find("prompt");
const settings = new Settings(find("settings"), () => changed());
const host = { settings, changed: () => changed(), say: (text) => (find("status").textContent = text), isLeaving: () => leaving };
const panes = [...document.querySelectorAll(".pane")].map((element) => new Pane(element, host));
const sidebar = new Sidebar({ open: (chosen) => open(chosen), remove });
let chats = storage.all();
let chat = null;
let leaving = false;
const asked = new URLSearchParams(location.search).get("model");
if (asked) history.replaceState(null, "", location.pathname); // to load the page again is not to ask again

function notice(text, action, act) {
  const box = find("notice");
  const button = action ? [el("button", { type: "button", onclick: () => { notice(""); act(); } }, action)] : [];
  box.replaceChildren(...(text ? [el("p", { class: text.includes("\n") ? "mono" : null }, text), ...button, el("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => notice("") }, "×")] : []));
  box.hidden = !text;
}

const FULL = "The browser keeps no more chats: export some, and delete them here.";
const others = (id) => chats.filter((other) => other.id !== id);
const shownPanes = () => (chat.compare ? panes : panes.slice(0, 1));
const isWriting = () => panes.some((pane) => pane.isWriting);

// Keep the conversation once there is something in it, and show what may have changed around it.
function changed() {
  if (!chat) return;
  chat.settings = settings.values;
  keep();
  drawAround();
}

function keep() {
  const first = chat.panes[0].tree.path()[0];
  if (!first) return;
  chat.title = textOf(first.parts).trim().replace(/\s+/g, " ").slice(0, 60);
  chat.changed = Date.now();
  chats = [chat, ...others(chat.id)];
  if (!storage.save(chat)) notice(FULL);
}

// Another tab has kept a chat, or deleted it. What is being written or edited here stays, and takes over the rest.
function heard(event) {
  if (event.storageArea !== localStorage || event.key === null) return;
  const id = storage.idOf(event.key);
  if (id === null) return;
  const kept = storage.read(id);
  const isBusy = id === chat.id && (isWriting() || panes.some((pane) => pane.isEditing));
  if (isBusy && kept) chat.panes.forEach((pane, number) => pane.tree.adopt(kept.panes[number].tree));
  const now = isBusy ? chat : kept;
  chats = storage.sorted([...(now ? [now] : []), ...others(id)]);
  if (id === chat.id && !isBusy) {
    if (kept) open(kept);
    else fresh();
  }
  drawAround();
}

function drawAround() {
  sidebar.draw(chats, chat);
  const writing = isWriting();
  const [shown, hidden] = writing ? [find("stop"), find("send")] : [find("send"), find("stop")];
  const hadFocus = document.activeElement === hidden;
  shown.hidden = false;
  if (hadFocus) shown.focus();
  hidden.hidden = true;
  find("empty").hidden = chat.panes[0].tree.path().length > 0;
  document.title = `${chat.title || "Chat"} · nanochat`;
}

function open(chosen) {
  const wasWriting = isWriting();
  panes.forEach((pane) => pane.stop());
  if (wasWriting) keep();
  chat = chosen;
  settings.values = chat.settings;
  panes.forEach((pane, number) => pane.show(chat.panes[number]));
  compare(chat.compare);
  sidebar.shown(false);
  drawAround();
}

// A new one goes on with the models and the parameters of the last.
function fresh() {
  const last = chat ?? chats[0];
  const chosen = last ? last.panes.map((pane) => pane.model) : [];
  if (asked && !chat) chosen[0] = asked;
  open(storage.blank(last?.settings, chosen));
  prompt.focus();
}

function remove(gone) {
  if (gone.id === chat.id) panes.forEach((pane) => pane.stop());
  storage.drop(gone);
  chats = others(gone.id);
  if (gone.id === chat.id) fresh();
  drawAround();
  notice(`Deleted: ${gone.title || "a chat"}.`, "Undo", () => {
    chats = storage.sorted([gone, ...others(gone.id)]);
    open(gone);
    if (!storage.save(gone)) notice(FULL);
  });
}

function compare(yes) {
  chat.compare = yes;
  const [first, second] = chat.panes;
  if (yes && !second.tree.path().length) second.tree = Tree.from(first.tree.toJSON());
  find("compare").setAttribute("aria-pressed", yes);
  find("panes").classList.toggle("two", yes);
  panes[1].log.closest(".pane").hidden = !yes;
  if (!yes) panes[1].stop();
  if (yes) {
    const other = panes[1].models?.find((model) => model.id !== first.model);
    if (!second.model || second.model === first.model) second.model = other?.id ?? first.model;
    panes[1].show(second);
  }
}

function send() {
  const text = prompt.value;
  if (!text.trim() || isWriting()) return;
  const { said, isUnknown } = command(text, { settings, clear: fresh }) ?? { said: null };
  if (isUnknown) return notice(said); // it stays where it was typed
  if (said === null && settings.wrong) {
    find("parameters").open = true;
    settings.wrong.reportValidity();
    return;
  }
  prompt.value = "";
  grow();
  if (said === null) {
    notice("");
    shownPanes().forEach((pane) => pane.ask(text));
  } else notice(said);
}

const stop = () => shownPanes().forEach((pane) => pane.stop());

function grow() {
  prompt.rows = Math.min(8, Math.max(1, prompt.value.split("\n").length, Math.ceil(prompt.value.length / 90)));
}

function download() {
  const address = URL.createObjectURL(new Blob([storage.exported(chats)], { type: "application/json" }));
  el("a", { href: address, download: "nanochat-chats.json" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

async function upload(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const found = storage.imported(await file.text());
    const kept = found.filter(storage.save);
    chats = storage.sorted([...kept, ...chats]);
    drawAround();
    const missing = found.length - kept.length;
    notice(`Imported ${kept.length} ${kept.length === 1 ? "chat" : "chats"}.${missing ? ` The browser has no room for ${missing} more.` : ""}`);
  } catch (error) {
    notice(`${file.name} was not imported: ${error.message}.`);
  }
}

async function offer() {
  try {
    const found = await models();
    panes.forEach((pane) => pane.offer(found ?? []));
    if (!found) notice("This server shows pages alone: no model answers here.");
    else if (!found.length) notice("No model can chat yet. nanochat run demo trains one in minutes.");
  } catch (error) {
    notice(error.message || "The server cannot be reached.", "Try again", offer);
  }
}

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
prompt.addEventListener("input", grow);
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
  const isN = event.key.toLowerCase() === "n" || (event.altKey && event.code === "KeyN"); // macOS makes ˜ of it
  const isHeld = (event.ctrlKey && event.altKey && !event.getModifierState("AltGraph")) || (event.shiftKey && (event.ctrlKey || event.metaKey));
  if (isN && isHeld) {
    event.preventDefault();
    fresh();
  }
});
find("stop").addEventListener("click", stop);
find("new").addEventListener("click", fresh);
find("export").addEventListener("click", download);
find("import").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", upload);
find("compare").addEventListener("click", () => {
  compare(!chat.compare);
  changed();
});
find("reset").addEventListener("click", () => {
  settings.values = storage.DEFAULTS;
  changed();
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    prompt.value = example.textContent;
    send();
  });
}
addEventListener("pagehide", () => {
  leaving = true;
  if (isWriting()) keep(); // everything else was kept as it happened
});
addEventListener("pageshow", () => (leaving = false));
addEventListener("storage", heard);

try {
  if (asked === null && chats.length) open(chats[0]);
  else fresh();
} catch {
  fresh(); // a chat that is damaged stays in the list, and the page works
}
offer();
