// The documentation page: shows openapi.json, with a form to try each operation.
// Its texts may come from strangers: they are put into the page as text, never as markup.

const base = new URL(".", location.href);
const METHODS = ["get", "post", "put", "patch", "delete"];

/** The Authorization header after sign-in. Only this page has it, while it is open. */
const caller = {};

let api;

/** A new element with attributes (functions are event listeners) and children (strings become text). */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** The target of a reference; any other value is returned as it is. */
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

/** The limits of a schema as text. */
function limitsOf(schema) {
  const words = { minimum: "at least", maximum: "at most", exclusiveMinimum: "above", pattern: "like" };
  return Object.entries(words)
    .filter(([key]) => key in schema)
    .map(([key, word]) => `${word} ${JSON.stringify(schema[key])}`)
    .concat(schema.description?.replaceAll("`", "") ?? [])
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

/** An example value that fits a schema. */
function example(schema, depth = 0) {
  const plain = resolve(schema);
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

/** The description of a parameter, or its type. */
function about({ description, schema }) {
  return description ? [description.replaceAll("`", "")] : [...typeOf(schema), " ", limitsOf(schema)];
}

/** The form to try an operation, and the element that shows the response. */
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
      const response = await fetch(url, { method: method.toUpperCase(), headers, body: body?.value || undefined });
      const names = ["location", "retry-after", "preference-applied", "link"].filter((name) => response.headers.has(name));
      const lines = names.map((name) => `${name}: ${response.headers.get(name)}`);
      const text = await response.text();
      shown.textContent = [`${response.status} ${response.statusText}`, ...lines, "", pretty(text)].join("\n");
    } catch (error) {
      shown.textContent = `No response: ${error.message}`;
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

/** One operation. Its content is built when it is opened. */
function operationOf(path, method, operation) {
  const inside = element("div");
  function open() {
    if (inside.childNodes.length) return;
    const responses = Object.entries(operation.responses).map(([status, reference]) => {
      const response = resolve(reference);
      const content = Object.values(response.content ?? {})[0];
      const type = content ? typeOf(content.schema) : [];
      return element("tr", {}, element("td", {}, status), element("td", {}, response.description), element("td", {}, ...type));
    });
    inside.append(
      element("p", { class: "description" }, operation.description ?? ""),
      ...tryIt(path, method, operation),
      element("h3", {}, "Responses"),
      element("table", {}, ...responses),
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

/** Open the element that the URL points to. */
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") target.open = true;
}

/** The sign-in form: a name and a password, or a token of another issuer. */
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
    const response = token
      ? { access_token: token }
      : await fetch(new URL("v1/token", base), { method: "POST", headers, body: JSON.stringify(given) }).then((got) => got.json());
    if (response.access_token) caller.Authorization = `Bearer ${response.access_token}`;
    if (!response.access_token || !(await load())) problem.textContent = response.detail ?? "The token is not valid.";
  }

  const about = "Sign in to see the API.";
  const labels = fields.map(([name, input]) => field(name, name === "token" ? ["instead of a name and a password"] : [], input));
  const form = element("form", { submit: send, id: "sign-in" }, element("p", {}, about), ...labels, element("button", {}, "Sign in"), problem);
  document.getElementById("operations").replaceChildren(form);
}

/** Read openapi.json and show it. Returns whether the server allowed it. */
async function load() {
  const response = await fetch(new URL("openapi.json", base), { headers: caller });
  if (!response.ok) return false;
  api = await response.json();
  show();
  unfold();
  return true;
}

if (!(await load())) signIn();
addEventListener("hashchange", unfold);
