// <hr-json>: JSON that folds, with search and copying. What is not whole, or no JSON, stays the text that was served.
const OPEN_DEPTH = 3;
const MOST_CHILDREN = 100; // more are shown when they are asked for
const MOST_FOUND = 500;

function span(kind, text) {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  return made;
}

function scalar(value) {
  if (typeof value === "string") return span(/^(\*{3,}|\[masked\]|•+)$/.test(value) ? "masked" : "string", JSON.stringify(value));
  return span("literal", JSON.stringify(value));
}

function line(depth, ...parts) {
  const made = span("line", "");
  made.append("  ".repeat(depth), ...parts);
  return made;
}

function build(target, value, depth, label, comma) {
  const head = label === null ? [] : [span("key", JSON.stringify(label)), ": "];
  const isList = Array.isArray(value);
  const entries = value !== null && typeof value === "object" ? Object.entries(value) : null;
  const [first, last] = isList ? "[]" : "{}";
  if (entries === null) return target.append(line(depth, ...head, scalar(value), comma));
  if (entries.length === 0) return target.append(line(depth, ...head, first + last, comma));
  const fold = document.createElement("button");
  fold.type = "button";
  fold.className = "fold";
  const inside = document.createElement("span");
  const summary = span("muted", ` ${entries.length} ${isList ? "items" : "keys"} ${last}${comma}`);
  const end = line(depth, last, comma);
  const opening = line(depth, fold, ...head, first, summary);
  let isFilled = false;
  function set(isOpen) {
    if (isOpen && !isFilled) {
      isFilled = true;
      fill(inside, entries, isList, depth + 1, 0);
    }
    fold.textContent = isOpen ? "▾" : "▸";
    fold.setAttribute("aria-expanded", isOpen);
    fold.setAttribute("aria-label", isOpen ? "Fold" : "Unfold");
    inside.hidden = end.hidden = !isOpen;
    summary.hidden = isOpen;
  }
  fold.addEventListener("click", () => set(inside.hidden));
  inside.unfold = set;
  target.append(opening, inside, end);
  set(depth < OPEN_DEPTH && entries.length <= MOST_CHILDREN);
}

function fill(inside, entries, isList, depth, from) {
  const upto = Math.min(from + MOST_CHILDREN, entries.length);
  for (let at = from; at < upto; at++) {
    build(inside, entries[at][1], depth, isList ? null : entries[at][0], at + 1 < entries.length ? "," : "");
  }
  if (upto === entries.length) return;
  const more = document.createElement("button");
  more.type = "button";
  more.className = "plain";
  more.textContent = `${entries.length - upto} more`;
  more.addEventListener("click", () => {
    more.remove();
    fill(inside, entries, isList, depth, upto);
  });
  inside.append(more);
}

class Json extends HTMLElement {
  connectedCallback() {
    if (this.pre) return;
    this.pre = this.querySelector("pre");
    if (!this.pre) return;
    this.text = this.pre.textContent;
    this.tools();
    if ("cut" in this.dataset) return;
    let value;
    try {
      value = JSON.parse(this.text);
    } catch {
      return; // it is shown as it came
    }
    if (value === null || typeof value !== "object") return;
    this.pre.textContent = "";
    build(this.pre, value, 0, null, "");
  }

  tools() {
    const tools = this.querySelector(".tools");
    if (!tools) return;
    const search = tools.querySelector("input");
    search?.addEventListener("input", () => this.find(search.value));
    search?.addEventListener("keydown", (event) => {
      if (event.key === "Enter") event.preventDefault();
    });
    const button = tools.querySelector("[data-copy-json]");
    if (button) button.dataset.copy = this.text;
    tools.hidden = this.text.length < 40 && !tools.querySelector(".always");
  }

  // All is unfolded while something is searched: what is found may lie anywhere.
  find(words) {
    for (const mark of this.pre.querySelectorAll("mark")) mark.replaceWith(mark.textContent);
    this.pre.normalize();
    if (words.length < 2) return;
    for (let depth = 0; depth < 12; depth++) {
      const folded = [...this.pre.querySelectorAll("span[hidden]")].filter((each) => each.unfold);
      if (!folded.length) break;
      for (const each of folded) each.unfold(true);
    }
    const wanted = words.toLowerCase();
    const walker = document.createTreeWalker(this.pre, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (walker.nextNode() && nodes.length < MOST_FOUND) {
      if (walker.currentNode.data.toLowerCase().includes(wanted)) nodes.push(walker.currentNode);
    }
    for (const node of nodes) {
      const at = node.data.toLowerCase().indexOf(wanted);
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, Math.min(at + words.length, node.data.length));
      range.surroundContents(document.createElement("mark"));
    }
    this.pre.querySelector("mark")?.scrollIntoView({ block: "nearest" });
  }
}

customElements.define("hr-json", Json);
