// A conversation is a tree of turns: an edit or another answer is a branch, and one path is shown.

import { newId } from "./dom.js";

const ROOT = "root";

export class Tree {
  constructor() {
    this.nodes = new Map([[ROOT, { id: ROOT, role: ROOT, parent: null, children: [], chosen: 0 }]]);
  }

  // From what toJSON gave, here or elsewhere. Throws an Error that says what is wrong with it.
  static from(data) {
    const tree = new Tree();
    if (!Array.isArray(data) || data.length > 5000) throw new Error("the turns are no list");
    for (const node of data) {
      const parent = tree.nodes.get(node?.parent);
      const role = node?.role;
      const isNew = /^[\w-]{1,40}$/.test(node?.id) && !tree.nodes.has(node.id);
      if (!parent || !isNew) throw new Error("a turn has no place");
      const follows = role === "user" ? [ROOT, "assistant"] : role === "assistant" ? ["user"] : [];
      if (!follows.includes(parent.role)) throw new Error(`a turn of ${role} follows one of ${parent.role}`);
      tree.nodes.set(node.id, { ...cleaned(node), id: node.id, parent: node.parent, role, children: [], chosen: 0 });
      parent.children.push(node.id);
    }
    for (const { id, chosen } of data) tree.nodes.get(id).chosen = within(chosen, tree.nodes.get(id).children.length - 1);
    const root = tree.nodes.get(ROOT);
    root.chosen = within(data[0]?.rootChosen, root.children.length - 1);
    return tree;
  }

  toJSON() {
    const nodes = [...this.nodes.values()].filter((node) => node.id !== ROOT);
    return nodes.map(({ children, ...node }, number) =>
      number ? node : { ...node, rootChosen: this.nodes.get(ROOT).chosen },
    );
  }

  get leaf() {
    return this.path().at(-1) ?? this.nodes.get(ROOT);
  }

  add(parent, role, fields) {
    const node = { parts: [], ...fields, id: newId(), parent: parent.id, role, children: [], chosen: 0 };
    this.nodes.set(node.id, node);
    parent.chosen = parent.children.push(node.id) - 1;
    return node;
  }

  // Take over what another tab has added or finished; which branches are shown stays.
  adopt(other) {
    for (const node of other.nodes.values()) {
      const ours = this.nodes.get(node.id);
      const { parts, finish, error, stats } = node;
      if (ours && ours.id !== ROOT && ours.finish !== "writing") Object.assign(ours, { parts, finish, error, stats });
      if (ours) continue;
      this.nodes.set(node.id, { ...node, children: [], chosen: 0 });
      this.nodes.get(node.parent).children.push(node.id);
    }
  }

  parentOf(node) {
    return this.nodes.get(node.parent);
  }

  // The turns that are shown, from the first to the last.
  path() {
    const found = [];
    let node = this.nodes.get(ROOT);
    while (node.children.length) {
      node = this.nodes.get(node.children[node.chosen]);
      found.push(node);
    }
    return found;
  }

  // Which of how many branches a turn is, from 1.
  branch(node) {
    const siblings = this.parentOf(node).children;
    return { number: siblings.indexOf(node.id) + 1, of: siblings.length };
  }

  turn(node, by) {
    const parent = this.parentOf(node);
    parent.chosen = Math.max(0, Math.min(parent.chosen + by, parent.children.length - 1));
  }

  // The turns up to one, as the API takes them. A question whose answer failed is left out with it.
  messages(last) {
    const turns = [];
    for (let node = last; node.id !== ROOT; node = this.parentOf(node)) turns.unshift(node);
    const found = [];
    for (const node of turns) {
      if (node.role === "assistant" && !textOf(node.parts)) found.pop();
      else found.push({ role: node.role, content: contentOf(node) });
    }
    return found;
  }
}

export const textOf = (parts) => parts.map((part) => part.text).join("");

function contentOf(node) {
  const isText = node.parts.every((part) => part.type === "text");
  return isText ? textOf(node.parts) : node.parts.map(({ type, text }) => ({ type, text }));
}

// A whole number from 0 to most, whatever a file says.
function within(value, most) {
  return Math.max(0, Math.min(Math.trunc(Number(value)) || 0, most));
}

function cleaned(node) {
  if (!Array.isArray(node.parts)) throw new Error("a turn has no text");
  const parts = node.parts.map((part) => {
    const known = ["text", "python", "python_output"].includes(part?.type) && typeof part.text === "string";
    if (!known) throw new Error("a part of a turn is of no known type");
    return { type: part.type, text: part.text };
  });
  const stats = {};
  for (const [name, value] of Object.entries(node.stats ?? {})) if (Number.isFinite(value)) stats[name] = value;
  const text = (value) => (typeof value === "string" ? value : undefined);
  // what was being written when the page went away is not written any more
  const finish = node.finish === "writing" ? "interrupted" : text(node.finish);
  return { parts, model: text(node.model), finish, error: text(node.error), stats };
}
