// Elements of a page, made without markup: what a server says is text, never HTML.

/** An element with attributes or properties, and children that are elements or texts. */
export function make(name, given = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "share") element.style.setProperty("--share", value);
    else if (key === "mark") element.style.setProperty("--mark", `var(--hue-${value % 6})`);
    else if (key in element && !key.includes("-") && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== undefined));
  return element;
}

let fields = 0;

/** A field under its label. */
export function field(label, input, hint) {
  input.id ||= `field-${++fields}`;
  const said = hint ? [label, " ", make("span", { className: "quiet" }, hint)] : [label];
  return make("div", {}, make("label", { htmlFor: input.id }, said), input);
}

/** A number as people read it. */
export function shown(number, digits = 3) {
  if (!Number.isFinite(number)) return "–";
  if (number !== 0 && Math.abs(number) < 10 ** -digits) return number.toExponential(1);
  return number.toFixed(digits);
}
