// A small part of Markdown as elements: paragraphs, headings, lists, quotes, rules, code, bold, italics, links.
// Text only ever becomes text nodes, so that no model and no file can put markup or scripts on the page.

import { el } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)]) +(.*)$/;
const INLINE =
  /(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)|\*\*(?=\S)(.+?)(?<=\S)\*\*|(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])|(?<!\w)_(?=[^\s_])(.+?)(?<=[^\s_])_(?!\w)|\[([^\]\n]+)\]\(([^()\s]+)\)|(https?:\/\/[^\s<>"'`)\]]*[^\s<>"'`)\].,;:!?])/su;

const DEEPEST = 6; // quotes and lists inside of each other

export function render(text, depth = 0) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const page = document.createDocumentFragment();
  let at = 0;
  while (at < lines.length) {
    const [block, next] = blockAt(lines, at, depth);
    if (block) page.append(block);
    at = next;
  }
  return page;
}

// The block that begins at a line, or null for an empty line; and where the next one begins.
function blockAt(lines, at, depth) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  const heading = /^(#{1,6}) +(.*)$/.exec(line);
  if (heading) return [el("p", { class: "heading" }, ...inline(heading[2])), at + 1];
  if (FENCE.test(line)) return fence(lines, at);
  if (/^ {0,3}([-*_])( *\1){2,} *$/.test(line)) return [el("hr"), at + 1];
  if (ITEM.test(line) && depth < DEEPEST) return list(lines, at, depth);
  if (/^>/.test(line) && depth < DEEPEST) {
    const end = until(lines, at, (next) => !/^>/.test(next));
    const inside = lines.slice(at, end).map((quoted) => quoted.replace(/^> ?/, ""));
    return [el("blockquote", {}, render(inside.join("\n"), depth + 1)), end];
  }
  const end = until(lines, at + 1, (next) => !next.trim() || FENCE.test(next) || ITEM.test(next) || /^(#{1,6} |>)/.test(next));
  return [el("p", {}, ...withBreaks(lines.slice(at, end))), end];
}

function until(lines, at, ends) {
  while (at < lines.length && !ends(lines[at])) at++;
  return at;
}

function fence(lines, at) {
  const [, mark, language] = FENCE.exec(lines[at]);
  const closes = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
  const end = until(lines, at + 1, (line) => closes.test(line));
  return [codeBlock(lines.slice(at + 1, end).join("\n"), language), end + 1];
}

export function codeBlock(code, label) {
  const copy = el("button", { type: "button", class: "quiet", onclick: () => copied(copy, code) }, "Copy");
  const head = el("div", { class: "code-head" }, el("span", {}, label || "code"), copy);
  return el("div", { class: "code" }, head, el("pre", { tabindex: "0" }, el("code", {}, code)));
}

export async function copied(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = before), 1500);
}

// Items of one indentation; what is indented more is inside of the item above.
function list(lines, at, depth) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const start = ordered && parseInt(mark, 10) !== 1 ? parseInt(mark, 10) : undefined;
  const found = el(ordered ? "ol" : "ul", { start });
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length !== indent.length || /\d/.test(item[2]) !== ordered) break;
    const end = until(lines, at + 1, (line) => !line.trim() || (ITEM.exec(line)?.[1].length ?? Infinity) <= indent.length);
    const inside = lines.slice(at + 1, end).map((line) => line.replace(/^ {1,4}/, ""));
    const nested = inside.findIndex((line) => ITEM.test(line) || FENCE.test(line));
    const own = nested < 0 ? inside : inside.slice(0, nested);
    const below = nested < 0 ? [] : [render(inside.slice(nested).join("\n"), depth + 1)];
    found.append(el("li", {}, ...withBreaks([item[3], ...own]), ...below));
    at = end;
    if (at + 1 < lines.length && !lines[at].trim() && ITEM.exec(lines[at + 1])?.[1].length === indent.length) at++;
  }
  return [found, at];
}

const withBreaks = (lines) => lines.flatMap((line, number) => [...(number ? [el("br")] : []), ...inline(line.trimEnd())]);

export function inline(text) {
  const found = [];
  for (;;) {
    const match = INLINE.exec(text);
    if (!match) break;
    if (match.index) found.push(text.slice(0, match.index));
    found.push(marked(match));
    text = text.slice(match.index + match[0].length);
  }
  return text ? [...found, text] : found;
}

function marked([whole, , code, bold, star, underscore, label, target, bare]) {
  if (code !== undefined) return el("code", {}, code);
  if (bold !== undefined) return el("strong", {}, ...inline(bold));
  if (star ?? underscore) return el("em", {}, ...inline(star ?? underscore));
  const address = safeAddress(target ?? bare);
  if (!address) return whole;
  return el("a", { href: address, rel: "noopener noreferrer nofollow", target: "_blank" }, ...(bare ? [bare] : inline(label)));
}

// The address if it is one of the web; a script or a file is none.
function safeAddress(text) {
  try {
    const address = new URL(text);
    return ["http:", "https:"].includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}
