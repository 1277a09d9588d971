// A page to try the models on.

import { field, make, shown } from "./element.js";
import { live } from "./live.js";
import { curl, get, post, useKey } from "./server.js";

const by = (id) => document.getElementById(id);

// What is made of answers

const bar = (share) =>
  make("div", { className: "bar", "aria-hidden": "true" }, make("span", { share: Math.max(0, Math.min(1, share)) }));

/** A list of things with numbers; each a text, and perhaps more beside it and a deed. */
function bars(rows, share = (score) => score) {
  const row = ({ said, more, score, digits, deed, pressed }) => {
    const beside = more ? make("span", { className: "quiet" }, more) : undefined;
    const text = deed
      ? make("button", { type: "button", className: "said", onclick: deed, "aria-pressed": String(Boolean(pressed)) }, said, beside)
      : make("span", { className: "said" }, said, beside);
    return make("li", {}, text, make("span", { className: "number" }, shown(score, digits)), bar(share(score)));
  };
  return make("ol", { className: "bars" }, rows.map(row));
}

/** A text with some of its characters marked; places are counted as the server counts them, in Unicode scalar values. */
function marked(text, marks) {
  const letters = Array.from(text);
  const part = (from, to) => letters.slice(from, to).join("");
  const parts = [];
  let end = 0;
  for (const { start, end: after, label, hue } of marks) {
    if (start < end) continue;
    parts.push(part(end, start));
    const small = label ? make("small", {}, label) : undefined;
    parts.push(make("mark", { mark: hue ?? 0 }, part(start, after), small));
    end = after;
  }
  return make("p", { className: "text" }, ...parts, part(end));
}

function spentOn({ roundTrip, server, queue, model, tokens }) {
  const part = (name, value, unit = "ms") =>
    Number.isFinite(value) ? make("span", {}, `${name} `, make("b", {}, `${value}`), unit ? ` ${unit}` : "") : undefined;
  return make(
    "p",
    { className: "meta" },
    part("there and back", Math.round(roundTrip)),
    part("server", server),
    part("in line", queue),
    part("model", model),
    part("tokens", tokens, ""),
  );
}

function cosines(vectors) {
  const norms = vectors.map((v) => Math.hypot(...v) || 1);
  const dot = (a, b) => a.reduce((sum, x, at) => sum + x * b[at], 0);
  return vectors.map((a, i) => vectors.map((b, j) => dot(a, b) / (norms[i] * norms[j])));
}

function heatMap(texts, rows) {
  const number = (at) => make("span", { className: "number" }, `${at + 1}`);
  const columns = texts.map((text, at) => make("th", { scope: "col", title: text }, `${at + 1}`));
  const head = make("tr", {}, make("td"), columns);
  const body = rows.map((row, i) => {
    const cell = (value, j) => {
      const share = Math.max(0, value) ** 1.5;
      const depth = share > 0.75 ? "deep" : share > 0.6 ? "middle" : "";
      const number = value.toFixed(2).replace(/^-0.00$/, "0.00").replace("-", "\u2212");
      return make("td", { share, className: depth, title: `${i + 1} and ${j + 1}` }, number);
    };
    return make("tr", {}, make("th", { scope: "row", title: texts[i] }, number(i), texts[i]), row.map(cell));
  });
  const table = make("table", { className: "heat" }, make("thead", {}, head), make("tbody", {}, body));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Cosine similarities" }, table);
}

// Tools: what is asked of which route, and what is shown

const lines = (input) => input.value.split("\n").map((line) => line.trim()).filter(Boolean);
const area = (value, rows = 6) => make("textarea", { value, rows, spellcheck: false });
const text = (value) => make("input", { type: "text", value, autocomplete: "off" });

const TOOLS = [
  {
    id: "compare",
    name: "Compare",
    deed: "Compare",
    tasks: ["sentence-similarity", "fill-mask"],
    hint: "Cosines of every sentence with every other appear here.",
    make() {
      const sentences = area(
        "A man is eating food.\nSomeone has a meal.\nThe girl carries a baby.\nA woman holds her child.\nStock prices fell sharply.",
        8,
      );
      return {
        fields: [field("Sentences", sentences, "one a line")],
        ask: (model) => ["/v1/embeddings", { model, input: lines(sentences) }],
        show({ data }, { input }) {
          return [heatMap(input, cosines(data.map((datum) => datum.embedding)))];
        },
      };
    },
  },
  {
    id: "rerank",
    name: "Rank",
    deed: "Rank",
    tasks: ["text-ranking"],
    hint: "The documents appear here, the best answer to the query first.",
    make() {
      const query = text("What is the capital of France?");
      const documents = area("Berlin is the capital of Germany.\nParis is the capital of France.\nFrance is famous for its bread.", 7);
      return {
        fields: [field("Query", query), field("Documents", documents, "one a line")],
        ask: (model) => ["/v1/rerank", { model, query: query.value, documents: lines(documents), return_documents: true }],
        show: ({ results }) => [
          bars(results.map((r) => ({ said: r.document.text, more: `${r.index + 1}`, score: r.relevance_score }))),
        ],
      };
    },
  },
  {
    id: "classify",
    name: "Classify",
    deed: "Classify",
    tasks: ["text-classification"],
    hint: "Labels and their scores appear here.",
    make() {
      const input = area("I waited an hour and nobody came.", 5);
      return {
        fields: [field("Text", input)],
        ask: (model) => ["/predict", { model, inputs: input.value }],
        show: (labels) => [bars(labels.map(({ label, score }) => ({ said: label, score })))],
      };
    },
  },
  {
    id: "entities",
    name: "Entities",
    deed: "Find entities",
    tasks: ["token-classification"],
    hint: "The text appears here with what it names marked.",
    make() {
      const input = area("Ada Lovelace met Charles Babbage in London in June 1833.", 7);
      const how = make("select", {}, ["first", "average", "max", "simple", "none"].map((value) => make("option", { value }, value)));
      return {
        fields: [field("Text", input), field("Words agree by", how)],
        ask: (model) => ["/v1/entities", { model, inputs: input.value, parameters: { aggregation_strategy: how.value } }],
        show(found, { inputs }) {
          const label = (entity) => entity.entity_group ?? entity.entity;
          const labels = [...new Set(found.map(label))].sort();
          if (!found.length) return [make("p", { className: "empty" }, "No entities in this text.")];
          const hue = (entity) => labels.indexOf(label(entity));
          const marks = found.map((entity) => ({ ...entity, label: label(entity), hue: hue(entity) }));
          return [marked(inputs, marks), bars(found.map((entity) => ({ said: entity.word, more: label(entity), score: entity.score })))];
        },
      };
    },
  },
  {
    id: "answer",
    name: "Answer",
    deed: "Answer",
    tasks: ["question-answering"],
    hint: "The answer appears here, marked in its context.",
    make() {
      const question = text("Where was the river bank?");
      const context = area("The cat sat on the mat. The river bank was red, and the water was cold in the morning.", 9);
      return {
        fields: [field("Question", question), field("Context", context)],
        ask: (model) => [
          "/v1/answer",
          { model, inputs: { question: question.value, context: context.value }, parameters: { top_k: 3 } },
        ],
        show(found, { inputs }) {
          const shownIn = make("div", {}, marked(inputs.context, [found[0]]));
          const list = make("div");
          const choose = (chosen) => {
            shownIn.replaceChildren(marked(inputs.context, [found[chosen]]));
            const row = (answer, at) => ({ said: answer.answer, score: answer.score, deed: () => choose(at), pressed: at === chosen });
            const kept = list.contains(document.activeElement);
            list.replaceChildren(bars(found.map(row)));
            if (kept) list.querySelectorAll("button")[chosen].focus();
          };
          choose(0);
          return [shownIn, list];
        },
      };
    },
  },
  {
    id: "fill",
    name: "Fill blanks",
    deed: "Fill",
    tasks: ["fill-mask"],
    hint: "The text appears here with its blanks filled.",
    make(models) {
      const mask = models[0].mask_token;
      const input = area(`The ${mask} sat on the mat.`, 6);
      const insert = () => {
        input.setRangeText(mask, input.selectionStart, input.selectionEnd, "end");
        input.focus();
      };
      const button = make("button", { type: "button", onclick: insert }, "Insert a blank");
      return {
        fields: [field("Text", input, `blanks are ${mask}`)],
        beside: [button],
        ask: (model) => ["/v1/fill", { model, inputs: input.value, parameters: { top_k: 8 } }],
        show(answer, { inputs }) {
          const masks = Array.isArray(answer[0]) ? answer : [answer];
          const chosen = masks.map(() => 0);
          const whole = make("p", { className: "text" });
          const lists = make("div", { className: "masks" });
          const draw = (focus) => {
            const parts = inputs.split(mask).flatMap((part, at) => {
              const fill = masks[at]?.[chosen[at]];
              return fill ? [part, make("span", { className: "filled" }, fill.token_str.trim())] : [part];
            });
            whole.replaceChildren(...parts);
            const list = (fills, at) => {
              const row = (fill, rank) => ({
                said: fill.token_str.trim() || "blank",
                score: fill.score,
                pressed: rank === chosen[at],
                deed: () => {
                  chosen[at] = rank;
                  draw([at, rank]);
                },
              });
              const title = masks.length > 1 ? make("h3", {}, `Blank ${at + 1}`) : undefined;
              return make("div", {}, title, bars(fills.map(row)));
            };
            lists.replaceChildren(...masks.map(list));
            if (focus) lists.children[focus[0]].querySelectorAll("button")[focus[1]].focus();
          };
          draw();
          return [whole, lists];
        },
      };
    },
  },
  {
    id: "recommend",
    name: "Recommend",
    deed: "Recommend",
    tasks: ["recommendation"],
    hint: "What may come next in the history appears here.",
    make(models, modelOf) {
      const history = [];
      const search = make("input", { type: "search", autocomplete: "off", placeholder: "Part of a title or an id" });
      const found = make("ul", { className: "items found", "aria-label": "Items found" });
      const kept = make("ol", { className: "items", "aria-label": "History" });
      const seen = make("input", { type: "checkbox", checked: true, id: "exclude-seen" });
      const named = ({ item, title }) => make("span", {}, title ?? item, title ? make("span", { className: "id" }, item) : undefined);
      const draw = () => {
        const row = (item, at) => {
          const remove = () => {
            history.splice(at, 1);
            draw();
            search.focus();
          };
          const button = make("button", { type: "button", onclick: remove, "aria-label": `Remove ${item.title ?? item.item}` }, "Remove");
          return make("li", {}, named(item), button);
        };
        const nothing = make("li", { className: "quiet" }, "Nothing yet: add items from below.");
        kept.replaceChildren(...(history.length ? history.map(row) : [nothing]));
      };
      const add = (item) => {
        history.push(item);
        draw();
      };
      const button = (item) =>
        make("button", { type: "button", onclick: () => add(item), "aria-label": `Add ${item.title ?? item.item}` }, "Add");
      let asked = 0;
      const find = async () => {
        const number = ++asked;
        const query = new URLSearchParams({ search: search.value, limit: 30, model: modelOf() });
        try {
          const { data } = await get(`/v1/items?${query}`);
          if (number !== asked) return;
          const row = (item) => make("li", {}, named(item), button(item));
          const nothing = make("li", { className: "quiet" }, "No such item.");
          found.replaceChildren(...(data.length ? data.map(row) : [nothing]));
        } catch (fault) {
          found.replaceChildren(make("li", { className: "quiet" }, fault.message));
        }
      };
      let wait;
      search.addEventListener("input", () => {
        clearTimeout(wait);
        wait = setTimeout(find, 150);
      });
      search.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        found.querySelector("button")?.click();
      });
      draw();
      find();
      const check = make("label", { className: "check", htmlFor: seen.id }, seen, "Leave out what is in the history");
      return {
        fields: [
          make("div", {}, make("h3", { className: "quiet" }, "History, the oldest first"), kept),
          make("div", {}, field("Add items", search, "Enter adds the first"), found),
        ],
        beside: [check],
        ask: (model) => {
          if (!history.length) throw new Error("Add an item to the history first.");
          const items = history.map(({ item }) => item);
          return ["/v1/recommend", { model, history: items, k: 12, exclude_seen: seen.checked }];
        },
        show({ data: [{ items, unknown }] }) {
          const [most, least] = [items[0]?.score ?? 0, items.at(-1)?.score ?? 0];
          const share = (score) => (most > least ? 0.06 + (0.94 * (score - least)) / (most - least) : 1);
          const rows = items.map(({ item, title, score }) => ({
            said: title ?? item,
            more: title ? item : undefined,
            score,
            digits: 2,
          }));
          const left = unknown ? make("p", { className: "quiet" }, `Unknown to the model: ${unknown.join(", ")}`) : undefined;
          return [bars(rows, share), left].filter(Boolean);
        },
      };
    },
  },
];

function panel(tool, models) {
  const select = make("select", {}, models.map(({ id }) => make("option", { value: id }, id)));
  const made = tool.make(models, () => select.value);
  const submit = make("button", { className: "main" }, tool.deed);
  const result = make("div", { className: "result" }, make("p", { className: "empty" }, tool.hint));
  const said = make("div", { className: "skip", role: "status" });
  const ask = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const [path, body] = made.ask(select.value);
      const { answer, spent } = await post(path, body);
      const request = make("details", {}, make("summary", {}, "The same by curl"), make("pre", {}, curl(path, body)));
      result.replaceChildren(...made.show(answer, body), spentOn(spent), request);
      said.textContent = `Answered in ${Math.round(spent.roundTrip)} milliseconds`;
    } catch (fault) {
      if (fault.status === 401) askForKey(fault.message);
      result.replaceChildren(make("p", { className: "fault", role: "alert" }, fault.message));
    }
    submit.disabled = false;
  };
  const form = make(
    "form",
    { onsubmit: ask },
    models.length > 1 ? field("Model", select) : undefined,
    made.fields,
    make("div", { className: "row" }, submit, made.beside ?? []),
  );
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return make("div", { className: "tool", role: "tabpanel", id: `panel-${tool.id}`, "aria-labelledby": `tab-${tool.id}` }, form, result, said);
}

// The page

function notice(message) {
  by("notice").textContent = message ?? "";
  by("notice").hidden = !message;
}

function askForKey(message) {
  by("key-form").hidden = false;
  notice(message);
  by("key").focus();
}

/** Tabs for what the models do; each tool is made when it is first seen, and keeps what was typed. */
function tabs(models) {
  const can = (tool) => models.filter(({ task }) => tool.tasks.includes(task));
  const tools = TOOLS.filter((tool) => can(tool).length);
  const panels = new Map();
  const choose = (id, focus) => {
    const tool = tools.find((one) => one.id === id) ?? tools[0];
    for (const tab of by("tabs").children) {
      const is = tab.id === `tab-${tool.id}`;
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
      if (is && focus) tab.focus();
      if (is) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    if (!panels.has(tool.id)) {
      const made = panel(tool, can(tool));
      panels.set(tool.id, made);
      by("tool").append(made);
    }
    for (const [name, made] of panels) made.hidden = name !== tool.id;
    history.replaceState(null, "", `#${tool.id}`);
  };
  const tab = (tool) =>
    make("button", { type: "button", role: "tab", id: `tab-${tool.id}`, "aria-controls": `panel-${tool.id}`, onclick: () => choose(tool.id) }, tool.name);
  by("tool").replaceChildren();
  by("tabs").replaceChildren(...tools.map(tab));
  by("tabs").hidden = false;
  by("tabs").onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = tools.findIndex((tool) => `tab-${tool.id}` === document.activeElement.id);
    choose(tools[(at + step + tools.length) % tools.length].id, true);
  };
  choose(location.hash.slice(1));
}

async function start() {
  try {
    const { data } = await get("/v1/models");
    notice();
    by("served").textContent = data.map(({ id }) => id).join(", ");
    tabs(data);
  } catch (fault) {
    if (fault.status === 401) askForKey(fault.message);
    else notice(fault.message);
  }
}

by("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(by("key").value);
  start();
});
await start();
live(by("live"));
