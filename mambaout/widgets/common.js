// Shared by all figures: Python puts this text before each figure's own module.

function make(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}
const fill = (node, ...children) => {
  node.replaceChildren();
  return make(node, {}, children);
};
const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// Random rather than counted: each figure may be a module instance of its own.
const uid = () => "mo-" + Math.random().toString(36).slice(2, 10);

const integer = (value) => value.toLocaleString("en-GB");
const percent = (part, whole) => (whole ? ((100 * part) / whole).toFixed(1) : "0.0") + "\u00a0%";
/** 249364224 -> "249.4 M", with a space that does not break */
function compact(value) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return `${(value / size).toFixed(1)}\u00a0${unit}`;
  }
  return String(value);
}

const by = (...sizes) => sizes.join("\u00a0×\u00a0");

const hidden = (...text) => h("span", { class: "mo-hidden" }, ...text);

/** A row of native radio buttons drawn as one segmented control; `options` are [value, content] pairs. */
function radios(legend, options, value, onpick, className = "mo-segments") {
  const name = uid();
  const inputs = options.map(([option]) =>
    h("input", { type: "radio", name, value: option, checked: option === value, onchange: () => onpick(option) }));
  const labels = options.map(([, content], i) => h("label", {}, inputs[i], h("span", {}, content)));
  const element = h("fieldset", { class: className }, h("legend", {}, legend), h("div", {}, labels));
  return { element, set: (picked) => inputs.forEach((input) => (input.checked = input.value === String(picked))) };
}

function select(label, options, onpick) {
  const id = uid();
  const control = h("select", { id, onchange: () => onpick(control.value) }, options);
  return { element: h("div", { class: "mo-field" }, h("label", { for: id }, label), control), control };
}

/** One horizontal bar of shares: `parts` are {name, value, colour}. */
function shareBar(title, parts) {
  const total = parts.reduce((sum, part) => sum + part.value, 0);
  const shown = parts.filter((part) => part.value > 0);
  const spoken = shown.map((part) => `${part.name} ${percent(part.value, total)}`).join(", ");
  return h("div", { class: "mo-share" },
    h("span", { "aria-hidden": "true" }, title),
    h("div", { class: "mo-bar", role: "img", "aria-label": `${title} by part: ${spoken}` },
      shown.map((part) =>
        h("i", { style: `flex-grow:${part.value / total};background:${part.colour}`, "data-part": part.key }))));
}

/** Runs `update` whenever one of the model's traits changes; returns the function that stops it. */
function observe(model, traits, update) {
  for (const trait of traits) model.on(`change:${trait}`, update);
  return () => traits.forEach((trait) => model.off(`change:${trait}`, update));
}
function store(model, trait, value) {
  model.set(trait, value);
  model.save_changes();
}

