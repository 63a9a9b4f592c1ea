// The parameters: fields of a form, kept with the conversation as they were typed.

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];

export class Settings {
  constructor(form, changed) {
    this.form = form;
    form.addEventListener("input", () => {
      this.show();
      changed();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  get values() {
    return Object.fromEntries(new FormData(this.form));
  }

  set values(values) {
    for (const [name, value] of Object.entries(values)) {
      if (this.form.elements[name]) this.form.elements[name].value = value;
    }
    this.show();
  }

  set(name, value) {
    this.values = { [name]: value };
    this.form.dispatchEvent(new Event("input"));
  }

  // What is out of its bounds is said where it is.
  show() {
    for (const field of this.form.elements) {
      if (field.name) field.setAttribute("aria-invalid", field.checkValidity() ? "false" : "true");
    }
  }

  // The first field that cannot be sent, if any.
  get wrong() {
    return [...this.form.elements].find((field) => field.name && !field.checkValidity());
  }

  // As the API takes them: what is empty is left to the server.
  request() {
    const values = this.values;
    const found = {};
    for (const name of NUMBERS) if (values[name].trim() !== "") found[name] = Number(values[name]);
    const stop = values.stop.split("\n").filter(Boolean).slice(0, 4);
    if (stop.length) found.stop = stop;
    return found;
  }
}
