// Conversations are kept in this browser alone. A conversation: {id, title, changed, compare, settings, panes}.

import { newId } from "./dom.js";
import { Tree } from "./tree.js";

const PREFIX = "nanochat.chat.";
const FORMAT = "nanochat-chats";

export const DEFAULTS = {
  system: "", temperature: "0.5", top_p: "", top_k: "50", min_p: "", repetition_penalty: "",
  max_tokens: "256", seed: "", stop: "",
};

export function blank(settings = {}, models = []) {
  const panes = [0, 1].map((number) => ({ model: models[number] ?? "", tree: new Tree() }));
  return { id: newId(), title: "", changed: Date.now(), compare: false, settings: { ...DEFAULTS, ...settings }, panes };
}

// Throws an Error that says what is wrong with it.
function checked(data) {
  if (typeof data !== "object" || data === null || !Array.isArray(data.panes)) throw new Error("it holds no chats");
  const made = blank();
  made.id = /^[0-9a-f]{16}$/.test(data.id) ? data.id : made.id;
  made.title = String(data.title ?? "").slice(0, 200);
  made.changed = Number.isFinite(data.changed) ? Math.max(0, Math.min(data.changed, Date.now())) : made.changed;
  made.compare = data.compare === true;
  for (const name of Object.keys(DEFAULTS)) {
    if (typeof data.settings?.[name] === "string") made.settings[name] = data.settings[name];
  }
  made.panes = made.panes.map((pane, number) => {
    const from = data.panes[number];
    return from ? { model: String(from.model ?? "").slice(0, 300), tree: Tree.from(from.tree) } : pane;
  });
  return made;
}

// Every conversation, the newest first; one that cannot be read is left where it is.
export function all() {
  return sorted(keys().map((key) => read(idOf(key))).filter(Boolean));
}

export const sorted = (chats) => chats.sort((one, other) => other.changed - one.changed);

// The id of the conversation that a key of localStorage is for, or null.
export const idOf = (key) => (key.startsWith(PREFIX) ? key.slice(PREFIX.length) : null);

// One conversation, or null if it is not there or cannot be read: written by another version, or by hand.
export function read(id) {
  try {
    return checked(JSON.parse(localStorage.getItem(PREFIX + id)));
  } catch {
    return null;
  }
}

function keys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return []; // the browser is set to keep nothing
  }
}

// False if the browser has no room left, or keeps nothing at all.
export function save(chat) {
  try {
    localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
    return true;
  } catch {
    return false;
  }
}

export function drop(chat) {
  try {
    localStorage.removeItem(PREFIX + chat.id);
  } catch {
    // the browser is set to keep nothing: there is nothing to drop
  }
}

export const exported = (chats) => JSON.stringify({ format: FORMAT, version: 1, chats }, null, 1);

// The conversations of an exported file, under new ids. Throws an Error that says what is wrong with it.
export function imported(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("it is no JSON");
  }
  if (data?.format !== FORMAT || data.version !== 1) throw new Error("it is no export of chats");
  if (!Array.isArray(data.chats)) throw new Error("it holds no chats");
  return data.chats.map((chat) => ({ ...checked(chat), id: newId() }));
}
