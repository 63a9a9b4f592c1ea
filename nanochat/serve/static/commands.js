// What is typed with a slash, as in nanochat's first page. Each answers with a line, or with nothing.

const HELP = `/temperature 0.7   how freely to choose; without a number: what it is
/topk 50           choose among so many of the likeliest tokens
/system TEXT       the system prompt
/clear             a new chat
/help              this

Enter sends, Shift+Enter begins a line, Escape stops, Ctrl+Shift+N is a new chat.`;

// The answer to a command, or null if the text is none.
export function command(text, { settings, clear }) {
  const found = /^\/(\w*)\s*([\s\S]*)$/.exec(text.trim());
  if (!found) return null;
  const [, name, value] = found;
  switch (name.toLowerCase()) {
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
    case "help":
      return HELP;
    default:
      return `There is no command /${name}. /help lists them.`;
  }
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
