// The documentation page: reads openapi.json and lets every operation be tried.
// What it shows may have been written by strangers, so it enters the page as text, never as markup.

const base = new URL(".", location.href);
const METHODS = ["get", "post", "put", "patch", "delete"];

/** Who asks, once somebody has signed in: known to this page alone, and for as long as it is open. */
const caller = {};

let api;

/** An element with attributes (functions are listeners) and children; strings become text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** What a reference refers to; anything else is itself. */
function resolve(value) {
  if (!value?.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((found, key) => found[key], api);
}

/** A schema in one line, as text and links. */
function typeOf(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [element("a", { href: `#schema-${name}` }, name)];
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((choice, i) => [i ? " or " : "", ...typeOf(choice)]);
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  if (schema.prefixItems) {
    const items = schema.prefixItems.flatMap((item, i) => [i ? ", " : "", ...typeOf(item)]);
    return ["[", ...items, ...(schema.items ? [", … ", ...typeOf(schema.items)] : []), "]"];
  }
  if (schema.properties) {
    const inner = Object.entries(schema.properties).flatMap(([name, property], i) => [
      `${i ? ", " : ""}${name}${schema.required?.includes(name) ? "" : "?"}: `,
      ...typeOf(property),
    ]);
    return ["{", ...inner, "}"];
  }
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items || {})];
  return [[schema.type ?? "anything"].flat().join(" or ") + (schema.format ? ` (${schema.format})` : "")];
}

/** What else a schema says of a value. */
function limitsOf(schema) {
  const words = { minimum: "at least", maximum: "at most", exclusiveMinimum: "above", pattern: "like", default: "else" };
  return Object.entries(words)
    .filter(([key]) => key in schema)
    .map(([key, word]) => `${word} ${JSON.stringify(schema[key])}`)
    .join(", ");
}

/** The properties of an object, as a table. */
function properties(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, property]) =>
    element(
      "tr",
      {},
      element("td", {}, element("code", {}, name), schema.required?.includes(name) ? " *" : ""),
      element("td", {}, ...typeOf(property)),
      element("td", { class: "dim" }, limitsOf(property)),
    ),
  );
  return rows.length ? element("table", {}, ...rows) : element("p", {}, ...typeOf(schema));
}

/** A value that fits a schema, to begin with. */
function example(schema, depth = 0) {
  const plain = resolve(schema);
  if ("default" in plain) return plain.default;
  if ("const" in plain) return plain.const;
  if (plain.enum) return plain.enum[0];
  const choices = plain.oneOf ?? plain.anyOf;
  if (choices) return example(choices.find((choice) => choice.$ref) ?? choices[0], depth);
  const type = [plain.type].flat()[0];
  if (depth > 4) return null;
  if (type === "object") {
    const needed = Object.entries(plain.properties ?? {}).filter(([name]) => plain.required?.includes(name));
    return Object.fromEntries(needed.map(([name, each]) => [name, example(each, depth + 1)]));
  }
  if (type === "array") {
    const items = (plain.prefixItems ?? []).slice(0, plain.minItems ?? 0);
    if (!plain.prefixItems && plain.minItems) items.push(plain.items);
    return items.map((item) => example(item, depth + 1));
  }
  return { string: "", integer: plain.minimum ?? 0, number: plain.minimum ?? 0, boolean: false }[type] ?? null;
}

/** An input for a parameter or the body, with its label. */
function field(label, about, input) {
  return element("label", {}, element("span", {}, element("code", {}, label), " ", ...about), input);
}

/** What a parameter is for, or at least what fits it. */
function about({ description, schema }) {
  return description ? [description.replaceAll("`", "")] : [...typeOf(schema), " ", limitsOf(schema)];
}

/** The form that tries an operation, and where its answer is shown. */
function tryIt(path, method, operation) {
  const parameters = (operation.parameters ?? []).map(resolve);
  const fields = parameters.map((parameter) => [
    parameter,
    element("input", { name: parameter.name, ...(parameter.required ? { required: "" } : {}) }),
  ]);
  const schema = operation.requestBody?.content["application/json"].schema;
  const body = schema && element("textarea", { rows: 6, spellcheck: "false" });
  if (body) body.value = JSON.stringify(example(schema), null, 2);
  const shown = element("pre", { hidden: "", "aria-live": "polite" });

  async function send(event) {
    event.preventDefault();
    const url = new URL(base);
    const headers = { ...caller, ...(body ? { "Content-Type": "application/json" } : {}) };
    let place = path;
    for (const [parameter, { value }] of fields) {
      if (parameter.in === "path") place = place.replace(`{${parameter.name}}`, value.split("/").map(encodeURIComponent).join("/"));
      else if (value && parameter.in === "query") url.searchParams.set(parameter.name, value);
      else if (value) headers[parameter.name] = value;
    }
    url.pathname += place.slice(1);
    shown.hidden = false;
    shown.textContent = "…";
    try {
      const answer = await fetch(url, { method: method.toUpperCase(), headers, body: body?.value || undefined });
      const interesting = ["location", "retry-after", "preference-applied", "link"].filter((name) => answer.headers.has(name));
      const lines = interesting.map((name) => `${name}: ${answer.headers.get(name)}`);
      const text = await answer.text();
      shown.textContent = [`${answer.status} ${answer.statusText}`, ...lines, "", pretty(text)].join("\n");
    } catch (error) {
      shown.textContent = `No answer: ${error.message}`;
    }
  }

  return [
    element(
      "form",
      { submit: send },
      ...fields.map(([parameter, input]) => field(parameter.name, about(parameter), input)),
      body ? field("body", typeOf(schema), body) : "",
      element("button", {}, "Send"),
    ),
    shown,
  ];
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** One operation, whose inside is made when it is opened. */
function operationOf(path, method, operation) {
  const inside = element("div");
  function open() {
    if (inside.childNodes.length) return;
    const answers = Object.entries(operation.responses).map(([status, reference]) => {
      const answer = resolve(reference);
      const content = Object.values(answer.content ?? {})[0];
      const type = content ? typeOf(content.schema) : [];
      return element("tr", {}, element("td", {}, status), element("td", {}, answer.description), element("td", {}, ...type));
    });
    inside.append(
      element("p", { class: "description" }, operation.description ?? ""),
      ...tryIt(path, method, operation),
      element("h3", {}, "Answers"),
      element("table", {}, ...answers),
    );
  }
  return element(
    "details",
    { toggle: open, id: operation.operationId },
    element(
      "summary",
      {},
      element("span", { class: `method ${method}` }, method.toUpperCase()),
      element("code", {}, path),
      element("span", { class: "dim" }, operation.summary ?? ""),
    ),
    inside,
  );
}

function show() {
  document.title = api.info.title;
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
  document.getElementById("about").textContent = api.info.description ?? "";
  const tags = new Map(api.tags.map(({ name, description }) => [name, [element("h2", {}, name), element("p", { class: "dim" }, description)]]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      tags.get(item[method].tags[0]).push(operationOf(path, method, item[method]));
    }
  }
  document.getElementById("operations").replaceChildren(...[...tags.values()].flat());
  const schemas = document.getElementById("schemas");
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    const about = element("p", { class: "description" }, schema.description ?? "");
    const content = schema.properties ? properties(schema) : element("p", {}, ...typeOf(schema));
    schemas.append(
      element("details", { id: `schema-${name}` }, element("summary", {}, element("code", {}, name)), element("div", {}, about, content)),
    );
  }
  schemas.hidden = false;
}

/** Open what the address points at. */
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") target.open = true;
}

/** A form for a name and a password; or for a token, of which the server knows who gives it. */
function signIn() {
  const fields = ["username", "password", "token"].map((name) => [
    name,
    element("input", { name, type: name === "username" ? "text" : "password", autocomplete: { password: "current-password", token: "off" }[name] ?? name }),
  ]);
  const problem = element("p", { class: "dim", role: "alert" });

  async function send(event) {
    event.preventDefault();
    const { token, ...given } = Object.fromEntries(fields.map(([name, input]) => [name, input.value]));
    const headers = { "Content-Type": "application/json" };
    const answer = token
      ? { access_token: token }
      : await fetch(new URL("v1/token", base), { method: "POST", headers, body: JSON.stringify(given) }).then((got) => got.json());
    if (answer.access_token) caller.Authorization = `Bearer ${answer.access_token}`;
    if (!answer.access_token || !(await load())) problem.textContent = answer.detail ?? "The token does not hold.";
  }

  const about = "Functions are shown to those who may call them.";
  const labels = fields.map(([name, input]) => field(name, name === "token" ? ["instead, if you have one"] : [], input));
  const form = element("form", { submit: send, id: "sign-in" }, element("p", {}, about), ...labels, element("button", {}, "Sign in"), problem);
  document.getElementById("operations").replaceChildren(form);
}

/** Read openapi.json and show it; whether the server lets this caller. */
async function load() {
  const answer = await fetch(new URL("openapi.json", base), { headers: caller });
  if (!answer.ok) return false;
  api = await answer.json();
  show();
  unfold();
  return true;
}

if (!(await load())) signIn();
addEventListener("hashchange", unfold);
