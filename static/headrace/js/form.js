// <hr-input data-schema="…"><textarea>: JSON as a form where its schema can be one (objects, texts, numbers, booleans,
// choices, lists, and these within each other), and as JSON. The textarea holds the truth; a form that is changed writes
// it, and a text that is changed is read when the form is opened again. What the form does not know stays as it is.
const MAX_DEPTH = 5;

function typeOf(schema) {
  if (schema.enum) return "enum";
  const types = [schema.type].flat().filter((each) => each && each !== "null");
  return types.length === 1 ? types[0] : schema.properties ? "object" : null;
}

function isForm(schema, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > MAX_DEPTH || schema.$ref || schema.oneOf || schema.anyOf) return false;
  const type = typeOf(schema);
  if (type === "object") return Boolean(schema.properties) && Object.values(schema.properties).every((each) => isForm(each, depth + 1));
  if (type === "array") return isForm(schema.items ?? { type: "string" }, depth + 1);
  return ["enum", "string", "number", "integer", "boolean"].includes(type);
}

function first(schema) {
  if (schema.default !== undefined) return structuredClone(schema.default);
  const type = typeOf(schema);
  if (type === "object") return Object.fromEntries((schema.required ?? []).filter((name) => schema.properties[name]).map((name) => [name, first(schema.properties[name])]));
  return { array: [], boolean: false, string: "", enum: schema.enum?.[0], number: 0, integer: 0 }[type] ?? null;
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

let counter = 0;

class Input extends HTMLElement {
  connectedCallback() {
    this.area = this.querySelector("textarea");
    if (!this.area || this.ready) return;
    this.ready = true;
    this.area.addEventListener("input", () => this.check());
    this.wrong = element("p", { className: "wrong" });
    this.wrong.setAttribute("role", "alert");
    this.area.after(this.wrong);
    this.area.addEventListener("keydown", (event) => this.indent(event));
    this.start();
  }

  static observedAttributes = ["data-schema"];

  attributeChangedCallback(_name, before) {
    if (this.ready && before !== null) this.start();
  }

  start() {
    this.schema = null;
    this.form?.remove();
    this.switch?.remove();
    try {
      const schema = JSON.parse(this.dataset.schema || "null");
      if (isForm(schema)) this.schema = schema;
    } catch {
      this.schema = null;
    }
    this.area.hidden = false;
    this.check();
    if (!this.schema) return;
    this.form = element("div", { className: "schema-form" });
    this.switch = element("div", { className: "row switch" });
    for (const word of ["Form", "JSON"]) {
      const button = element("button", { type: "button", className: "chip", textContent: word });
      button.addEventListener("click", () => this.show(word === "Form"));
      this.switch.append(button);
    }
    this.prepend(this.switch);
    this.area.before(this.form);
    this.show(true);
  }

  show(asForm) {
    if (asForm) {
      const value = this.parsed();
      if (value === undefined) return void this.area.focus();
      this.value = value;
      this.form.replaceChildren(this.field(this.schema, this.value, (changed) => this.write(changed), "", true, 0));
    }
    this.form.hidden = !asForm;
    this.area.hidden = asForm;
    const [form, json] = this.switch.children;
    form.setAttribute("aria-pressed", asForm);
    json.setAttribute("aria-pressed", !asForm);
    form.classList.toggle("on", asForm);
    json.classList.toggle("on", !asForm);
  }

  write(value) {
    this.value = value;
    this.area.value = JSON.stringify(value, null, 2);
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  parsed() {
    try {
      return this.area.value.trim() === "" ? {} : JSON.parse(this.area.value);
    } catch {
      return undefined;
    }
  }

  check() {
    try {
      if (this.area.value.trim()) JSON.parse(this.area.value);
      this.wrong.textContent = "";
      this.area.removeAttribute("aria-invalid");
    } catch (error) {
      this.wrong.textContent = `This is no JSON: ${error.message}`;
      this.area.setAttribute("aria-invalid", "true");
    }
  }

  indent(event) {
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey) return;
    const before = this.area.value.slice(0, this.area.selectionStart);
    const [indent] = /[ \t]*$/.exec(before.split("\n").at(-1).match(/^[ \t]*/)[0]);
    event.preventDefault();
    document.execCommand("insertText", false, `\n${indent}${/[[{]\s*$/.test(before) ? "  " : ""}`);
  }

  // A field for a value: `set` is called with each new one, undefined to leave it out.
  field(schema, value, set, name, isRequired, depth) {
    const type = typeOf(schema);
    if (type === "object") return this.object(schema, value, set, name, depth);
    if (type === "array") return this.list(schema, value, set, name, depth);
    const id = `f${counter++}`;
    const label = element("label", { htmlFor: id }, schema.title ?? name ?? "");
    if (isRequired) label.append(element("span", { className: "required", textContent: " *", title: "required" }));
    const box = element("div", { className: "schema-field" });
    let input;
    if (type === "boolean" || type === "enum") {
      input = element("select", { id });
      const choices = type === "boolean" ? [true, false] : schema.enum;
      if (!isRequired || value === undefined) input.append(element("option", { value: "", textContent: "not given" }));
      choices.forEach((choice, at) => input.append(element("option", { value: String(at), textContent: String(choice), selected: choice === value })));
      input.addEventListener("change", () => set(input.value === "" ? undefined : choices[Number(input.value)]));
    } else {
      const isNumber = type !== "string";
      input = element("input", { id, type: isNumber ? "number" : schema.format === "date" ? "date" : "text", value: value ?? "" });
      if (isNumber) {
        input.step = type === "integer" ? "1" : "any";
        if (schema.minimum !== undefined) input.min = schema.minimum;
        if (schema.maximum !== undefined) input.max = schema.maximum;
      } else if (schema.maxLength) input.maxLength = schema.maxLength;
      if (schema.examples?.length) input.placeholder = String(schema.examples[0]);
      input.addEventListener("input", () => {
        if (input.value === "" && (!isRequired || isNumber)) set(undefined);
        else set(isNumber ? Number(input.value) : input.value);
      });
    }
    box.append(label, input);
    if (schema.description) {
      const hint = element("span", { className: "hint", textContent: schema.description, id: `${id}-hint` });
      input.setAttribute("aria-describedby", hint.id);
      box.append(hint);
    }
    return box;
  }

  object(schema, value, set, name, depth) {
    const held = value && typeof value === "object" && !Array.isArray(value) ? value : {};
    const box = element(depth ? "fieldset" : "div", { className: "schema-object" });
    if (depth) box.append(element("legend", { textContent: schema.title ?? name }));
    // A stored schema has lost the order of its properties: those that are required come first, in their order.
    const required = (schema.required ?? []).filter((key) => key in schema.properties);
    for (const key of new Set([...required, ...Object.keys(schema.properties).sort()])) {
      const inner = schema.properties[key];
      const change = (changed) => {
        if (changed === undefined) delete held[key];
        else held[key] = changed;
        set(depth && Object.keys(held).length === 0 ? undefined : held);
      };
      box.append(this.field(inner, held[key], change, key, required.includes(key), depth + 1));
    }
    const others = Object.keys(held).filter((key) => !(key in schema.properties));
    if (others.length) box.append(element("p", { className: "hint", textContent: `Also in the JSON: ${others.join(", ")}` }));
    return box;
  }

  list(schema, value, set, name, depth) {
    const held = Array.isArray(value) ? value : [];
    const items = schema.items ?? { type: "string" };
    const box = element("fieldset", { className: "schema-list" }, element("legend", { textContent: schema.title ?? name }));
    const rows = element("div");
    const draw = () => {
      rows.replaceChildren(...held.map((each, at) => {
        const remove = element("button", { type: "button", className: "plain", textContent: "×" });
        remove.setAttribute("aria-label", `Remove ${at + 1} of ${name}`);
        remove.addEventListener("click", () => {
          held.splice(at, 1);
          set(held);
          draw();
        });
        const change = (changed) => {
          held[at] = changed ?? null;
          set(held);
        };
        return element("div", { className: "schema-row" }, this.field(items, each, change, `${at + 1}`, true, depth + 1), remove);
      }));
    };
    const add = element("button", { type: "button", textContent: "Add" });
    add.setAttribute("aria-label", `Add to ${name}`);
    add.addEventListener("click", () => {
      held.push(first(items));
      set(held);
      draw();
      rows.lastElementChild?.querySelector("input, select")?.focus();
    });
    draw();
    box.append(rows, add);
    return box;
  }
}

customElements.define("hr-input", Input);
