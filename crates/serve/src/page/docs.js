// The routes, as the server describes them in OpenAPI.

import { make } from "./element.js";
import { get } from "./server.js";

const routes = document.getElementById("routes");

/** What a schema says, followed to where it stands. */
function whole(schema, all) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? { name, ...all[name] } : (schema ?? {});
}

/** A type in a few words. */
function kind(schema, all, depth = 0) {
  const of = whole(schema, all);
  const any = of.anyOf;
  if (any && depth < 4) {
    const kinds = any.filter((one) => one.type !== "null").map((one) => kind(one, all, depth + 1));
    return [...new Set(kinds)].join(" or ");
  }
  if (of.enum) return of.enum.map((value) => JSON.stringify(value)).join(" or ");
  const type = Array.isArray(of.type) ? of.type.find((one) => one !== "null") : of.type;
  if (type === "array") return `list of ${kind(of.items, all, depth + 1)}`;
  if (type === "object" && of.properties && depth > 0) return `{ ${Object.keys(of.properties).join(", ")} }`;
  return { integer: "integer", number: "number", string: "text", boolean: "true or false", object: "object" }[type] ?? "any";
}

/** Fields of an object and of all that it is put together from, and which of them must be there. */
function fields(schema, all) {
  const of = whole(schema, all);
  const parts = [of, ...(of.allOf ?? []).map((part) => whole(part, all))];
  const required = new Set(parts.flatMap((part) => part.required ?? []));
  return parts.flatMap((part) => Object.entries(part.properties ?? {})).map(([name, value]) => ({
    name,
    required: required.has(name),
    kind: kind(value, all),
    said: value.description ?? whole(value, all).description ?? "",
  }));
}

/** A sentence with what stands between backticks as code. */
const sentence = (text) => text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));

function table(rows) {
  const row = ({ name, required, kind, said }) =>
    make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, kind, required ? ", required" : ""), make("td", {}, sentence(said)));
  return make("table", {}, make("tbody", {}, rows.map(row)));
}

function route(path, method, described, all) {
  const body = described.requestBody?.content?.["application/json"]?.schema;
  const good = described.responses?.["200"];
  const schema = good?.content?.["application/json"]?.schema;
  const rows = body ? fields(body, all) : [];
  const queries = (described.parameters ?? []).map(({ name, required, schema, description }) => ({
    name, required, kind: kind(schema, all), said: description ?? "",
  }));
  return make(
    "details",
    { className: "route" },
    make(
      "summary",
      {},
      make("span", { className: "method" }, method.toUpperCase()),
      make("code", {}, path),
      make("span", { className: "quiet" }, sentence(described.summary ?? "")),
    ),
    make(
      "div",
      { className: "inside" },
      described.description ? make("p", {}, sentence(described.description)) : undefined,
      rows.length + queries.length ? table([...rows, ...queries]) : undefined,
      good ? make("p", { className: "quiet" }, `${good.description}${schema ? `: ${kind(schema, all)}` : ""}`) : undefined,
    ),
  );
}

try {
  const { paths, components } = await get("/api-doc/openapi.json");
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, described] of Object.entries(methods)) {
      routes.append(route(path, method, described, components.schemas));
    }
  }
} catch (fault) {
  routes.append(make("p", { className: "notice", role: "alert" }, fault.message));
}
