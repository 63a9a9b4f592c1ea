// What the page asks of the server: OpenAI's API, with what nanochat adds to it.

import { events } from "./sse.js";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function refused(answer) {
  let said = "";
  try {
    said = (await answer.json()).error?.message ?? "";
  } catch {
    // no JSON: the status has to do
  }
  if (answer.status === 401) said = "The server asks for a key: open /login and come back.";
  const wait = answer.headers.get("retry-after");
  if (answer.status === 429 && wait) said = `${(said || "The server is busy").replace(/\.$/, "")}. Try again in ${wait} s.`;
  return new ApiError(said || `The server answered ${answer.status}.`, answer.status);
}

// The models that chat; null if the server answers no chats at all.
export async function models() {
  const answer = await fetch("/v1/models");
  if (answer.status === 404) return null; // this server has pages alone
  if (!answer.ok) throw await refused(answer);
  return (await answer.json()).data.filter((model) => model.nanochat?.chat !== false);
}

// Yields {text}, {tool: {type, text}}, and last {finish, stats}. Throws ApiError, or AbortError once stopped.
export async function* chat(request, signal) {
  const answer = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...request, stream: true }),
    signal,
  });
  if (!answer.ok) throw await refused(answer);
  let finished = false;
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") return;
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      throw new ApiError("The server sent something that is no answer.");
    }
    if (chunk.error) throw new ApiError(chunk.error.message ?? "The server could not go on.");
    const choice = chunk.choices?.[0];
    if (choice?.delta?.nanochat_tool) yield { tool: choice.delta.nanochat_tool };
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) {
      finished = true;
      yield { finish: chunk.nanochat?.ended ?? choice.finish_reason, stats: chunk.nanochat ?? {} };
    }
  }
  if (!finished) throw new ApiError("The connection ended before the answer did.");
}
