// Parts of a page that keep themselves up to date; without this script they are as they were when it came.

async function part(address, selector, signal) {
  const answer = await fetch(address, { signal });
  if (!answer.ok && !selector) throw new Error(`${address}: ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return selector ? page.querySelector(selector) : page.body;
}

// <div data-live="/address" data-every="SECONDS"> holds what the address answers.
for (const place of document.querySelectorAll("[data-live]")) {
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const fresh = await part(place.dataset.live);
      if (fresh.innerHTML !== place.innerHTML) place.replaceChildren(...fresh.childNodes);
    } catch {
      // the server may be on its way back
    }
  }, 1000 * Number(place.dataset.every));
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
      history.replaceState(null, "", address);
    } catch (error) {
      if (error.name !== "AbortError") form.submit();
    }
  }
}
