// What is typed with a slash, as in nanochat's first page. Each answers with a line, or with nothing.

const HELP = `/temperature 0.7   how freely to choose; without a number: what it is
/topk 50           choose among so many of the likeliest tokens
/system TEXT       the system prompt
/clear             a new chat
/help              this

Enter sends, Shift+Enter begins a line, Escape stops, Ctrl+Alt+N is a new chat.`;
const NAMES = ["temperature", "topk", "system", "clear", "help"];

// {said, isUnknown} for a command, null for any other text; unknown is what nearly is one.
export function command(text, given) {
  const [, typed, value] = /^\/([a-z]+)(?:\s+([\s\S]*))?$/i.exec(text.trimEnd()) ?? [];
  const name = typed?.toLowerCase();
  if (NAMES.includes(name)) return { said: obeyed(name, value ?? "", given) };
  const meant = name && NAMES.find((known) => isNear(name, known));
  return meant ? { said: `There is no command /${typed}. Did you mean /${meant}? With a space in front it is sent as it is.`, isUnknown: true } : null;
}

function obeyed(name, value, { settings, clear }) {
  switch (name) {
    case "temperature":
      return number(settings, "temperature", "temperature", value);
    case "topk":
      return number(settings, "top_k", "top-k", value);
    case "system":
      settings.set("system", value);
      return value ? "The system prompt is set." : "There is no system prompt any more.";
    case "clear":
      clear();
      return "";
    default:
      return HELP;
  }
}

// A beginning of it, or so few letters wrong that it was meant.
function isNear(typed, name) {
  if (typed.length > 2 && name.startsWith(typed)) return true;
  let row = [...Array(name.length + 1).keys()];
  [...typed].forEach((letter, at) => {
    const next = [at + 1];
    for (let i = 1; i <= name.length; i++) next[i] = Math.min(next[i - 1] + 1, row[i] + 1, row[i - 1] + (letter !== name[i - 1]));
    row = next;
  });
  return row[name.length] <= (name.length > 5 ? 2 : 1);
}

function number(settings, field, name, value) {
  const before = settings.values[field];
  if (!value) return `The ${name} is ${before || "what the server takes"}.`;
  settings.set(field, value);
  const input = settings.form.elements[field];
  if (input.checkValidity() && input.value) return `The ${name} is ${input.value}.`;
  settings.set(field, before);
  return `${name} ${value}: a number from ${input.min} to ${input.max}.`;
}
