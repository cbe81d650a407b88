// The test page: the lines that do the same from elsewhere follow the form; another flow is another page.
const form = document.getElementById("test-form");

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// JSON as Python writes it.
function python(value, depth = 0) {
  const indent = "    ".repeat(depth + 1);
  const end = "    ".repeat(depth);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const entries = Array.isArray(value) ? value.map((each) => python(each, depth + 1)) : Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${python(each, depth + 1)}`);
  const [first, last] = Array.isArray(value) ? "[]" : "{}";
  const flat = `${first}${entries.join(", ")}${last}`;
  return flat.length < 70 && !flat.includes("\n") ? flat : `${first}\n${entries.map((each) => `${indent}${each},\n`).join("")}${end}${last}`;
}

const JSON_TYPE = "-H 'Content-Type: application/json'";

// A command with an option a line, as a shell takes it.
function command(...parts) {
  return parts.join(" \\\n  ");
}

// One event as options; an array, or what an option can't say, through standard input.
function eventCommand(value, org) {
  const whose = org === "default" ? [] : [`--org ${org}`];
  const { name, data = {}, user, id, ts, ...rest } = Array.isArray(value) ? {} : (value ?? {});
  if (typeof name !== "string" || !name || name.startsWith("-") || Object.keys(rest).length || (ts && !(typeof ts === "number" && Number.isFinite(new Date(ts).getTime())))) {
    return `echo ${quoted(JSON.stringify(value))} |\n  ${command("manage.py events send", "--from -", ...whose, "--wait")}`;
  }
  const said = [`--data ${quoted(JSON.stringify(data))}`];
  if (user) said.push(`--user ${quoted(JSON.stringify(user))}`);
  if (id) said.push(`--id ${quoted(String(id))}`);
  if (ts) said.push(`--at ${new Date(ts).toISOString()}`);
  return command(`manage.py events send ${quoted(name)}`, ...said, ...whose, "--wait");
}

function lines() {
  const { kind, base, org, root } = form.dataset;
  const area = form.querySelector("textarea");
  let value;
  try {
    value = JSON.parse(area.value || "{}");
  } catch {
    return null;
  }
  const organization = `Organization.objects.get(slug=${JSON.stringify(org)})`;
  const head = `from ${root} import services\nfrom ${root}.models import Organization\n\n`;
  if (kind === "event") {
    const body = JSON.stringify(value);
    return {
      curl: command(`curl -X POST ${base}e/$HEADRACE_EVENT_KEY`, JSON_TYPE, `-d ${quoted(body)}`),
      python: `${head}services.send_events(${organization}, ${python(value)})`,
      cli: eventCommand(value, org),
    };
  }
  const data = new FormData(form);
  const slug = data.get("flow");
  const options = { priority: data.get("priority"), delay: data.get("delay"), idempotencyKey: data.get("key"), userId: data.get("userId") };
  const given = Object.entries(options).filter(([, text]) => text);
  const tags = (data.get("tags") ?? "").split(/[\s,]+/).filter(Boolean);
  const body = JSON.stringify({ triggerData: value, ...Object.fromEntries(given), ...(tags.length ? { tags } : {}) });
  const words = { idempotencyKey: "idempotency_key", userId: "user_id" };
  const flags = { priority: "--priority", delay: "--delay", idempotencyKey: "--key" };
  const named = given.map(([name, text]) => `, ${words[name] ?? name}=${JSON.stringify(text)}`).join("") + (tags.length ? `, tags=${python(tags)}` : "");
  const flagged = given.filter(([name]) => flags[name]).map(([name, text]) => `${flags[name]} ${quoted(text)}`);
  return {
    curl: command(`curl -X POST ${base}api/workflows/${slug}/run`, '-H "Authorization: Bearer $HEADRACE_API_KEY"', JSON_TYPE, `-d ${quoted(body)}`),
    python: `${head}services.trigger(${organization}, ${JSON.stringify(slug)}, ${python(value)}${named})`,
    cli: command(`manage.py trigger ${slug}`, ...(org === "default" ? [] : [`--org ${org}`]), `--data ${quoted(JSON.stringify(value))}`, ...flagged, ...tags.map((tag) => `--tag ${/^[\w.:\/@+-]+$/.test(tag) ? tag : quoted(tag)}`), "--wait"),
  };
}

function show() {
  const said = lines();
  for (const name of ["curl", "python", "cli"]) {
    const line = document.querySelector(`#line-${name} .code-line`);
    line.querySelector("pre").textContent = said ? said[name] : "The input is no JSON yet.";
    line.querySelector("button").dataset.copy = said ? said[name] : "";
  }
}

if (form) {
  form.addEventListener("input", show);
  form.addEventListener("keydown", (event) => { // Enter in the field of the flow shows its form, and runs nothing
    if (event.key !== "Enter" || event.target.tagName !== "INPUT" || !event.target.dataset.go) return;
    event.preventDefault();
    event.target.blur();
  });
  form.addEventListener("change", (event) => {
    if (event.target.dataset.go) location.href = event.target.dataset.go + encodeURIComponent(event.target.value);
    else show();
  });
  form.addEventListener("click", (event) => {
    const name = event.target.closest("[data-event-name]")?.dataset.eventName;
    if (!name) return;
    const area = form.querySelector("textarea");
    let value = {};
    try {
      value = JSON.parse(area.value);
    } catch {
      value = {};
    }
    const first = Array.isArray(value) ? (value[0] ?? {}) : value;
    const named = { ...first, name, data: first.data ?? {} };
    area.value = JSON.stringify(Array.isArray(value) ? [named, ...value.slice(1)] : named, null, 2);
    area.dispatchEvent(new Event("input", { bubbles: true }));
  });
  show();
}
