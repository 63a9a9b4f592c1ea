// Parts of a page that keep themselves up to date; without this script they are as they were when it came.

import { el } from "./dom.js";

async function part(address, selector, signal) {
  const answer = await fetch(address, { signal });
  if (answer.status === 401) throw new Error("The server asks for a key: open /login and come back.");
  if (!answer.ok) throw new Error(`The server answered ${answer.status}; what is shown may be old.`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return selector ? page.querySelector(selector) : page.body;
}

// Why a place is not up to date, in front of it; nothing once it is.
function excuse(place, text) {
  let line = place.previousElementSibling;
  if (!line?.matches("[data-excuse]")) {
    if (!text) return;
    place.before((line = el("p", { class: "wrong", role: "alert", "data-excuse": true })));
  }
  if (!text) line.remove();
  else if (line.textContent !== text) line.textContent = text;
}

// What went wrong in words; fetch itself says only that it failed.
const said = (error) => (error instanceof TypeError ? "The server cannot be reached; what is shown may be old." : error.message);

// <div data-live="/address" data-every="SECONDS"> holds what the address answers; one question at a time.
for (const place of document.querySelectorAll("[data-live]")) {
  const later = () => setTimeout(update, 1000 * Number(place.dataset.every));
  async function update() {
    try {
      const fresh = document.hidden ? null : await part(place.dataset.live);
      if (fresh && fresh.innerHTML !== place.innerHTML) place.replaceChildren(...fresh.childNodes);
      if (fresh) excuse(place, "");
    } catch (error) {
      excuse(place, said(error));
    }
    later();
  }
  later();
}

// <form data-refresh="#result"> shows its result while one types.
for (const form of document.querySelectorAll("form[data-refresh]")) {
  const selector = form.dataset.refresh;
  let timer, running;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => refresh(), 250);
  });
  async function refresh() {
    running?.abort();
    running = new AbortController();
    const address = `${form.getAttribute("action")}?${new URLSearchParams(new FormData(form))}`;
    try {
      const fresh = await part(address, selector, running.signal);
      if (!fresh) return;
      document.querySelector(selector).replaceChildren(...fresh.childNodes);
      excuse(document.querySelector(selector), "");
      history.replaceState(null, "", address);
    } catch (error) {
      if (error.name !== "AbortError") excuse(document.querySelector(selector), said(error));
    }
  }
}
