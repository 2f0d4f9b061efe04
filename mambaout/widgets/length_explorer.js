// When is a sequence long? From an input's size to tokens, r_L and the FLOPs of three blocks.

const MAX_SIDE = 4096, MAX_LENGTH = 131072, MAX_DIM = 4096, MAX_DEPTH = 100, PATCHES = [4, 8, 14, 16, 32];
const LEFT = 46, RIGHT = 12, BOTTOM = 44, LABEL_ROW = 17; // of the plot, in pixels
const FROM = 64, TO = 131072; // tokens on the plot's axis
const NEAR = 0.8; // within this factor of the threshold the verdict says "just"

// The last two nearly coincide: the narrow line lies on the wide one.
const BLOCKS = {
  transformer_block: { name: "Transformer block", colour: "var(--attn)", stroke: 2.8 },
  mamba_block: { name: "Mamba block", colour: "var(--ssm)", stroke: 1.8 },
  gated_cnn_block: { name: "Gated CNN block", colour: "var(--conv)", stroke: 6 },
};
const PARTS = {
  linear: { name: "in proportion to L", colour: "var(--plain)" },
  quadratic: { name: "in proportion to L²", colour: "var(--attn)" },
  gated_cnn: { name: "Gated CNN", colour: "var(--conv)" },
  ssm: { name: "SSM", colour: "var(--ssm)" },
};
const sum = (values) => values.reduce((total, value) => total + value, 0);
const whole = (parts) => sum(Object.values(parts));
/** 9.1e12 -> "9.1 T" */
const flopsText = (value) => (value >= 1e12 ? `${(value / 1e12).toFixed(1)}\u00a0T` : compact(value));
const ratioText = (ratio) => (ratio < 0.1 ? ratio.toFixed(3) : ratio.toFixed(2));

/** A number field with its label; `set` shows a value unless the reader is typing. */
function numberField(label, least, most, pick, slider = null) {
  const id = uid();
  const valid = (value) => Number.isInteger(value) && value >= least && value <= most && pick(value);
  const box = h("input", { id, type: "number", min: least, max: most, step: 1,
    oninput: () => valid(box.valueAsNumber),
    onchange: () => {
      const asked = Math.round(box.valueAsNumber);
      if (Number.isFinite(asked)) valid(Math.min(most, Math.max(least, asked)));
      box.value = shown;
    } });
  let shown = least;
  const range = slider && h("input", { type: "range", min: slider.at(least), max: slider.at(most), step: slider.step,
    "aria-label": `${label}, slider`, oninput: () => valid(slider.value(range.valueAsNumber)) });
  const set = (value) => {
    shown = value;
    if (document.activeElement !== box) box.value = value;
    if (!range) return;
    range.value = slider.at(value);
    range.setAttribute("aria-valuetext", integer(value));
  };
  return { element: h("div", { class: "mo-field mo-number" }, h("label", { for: id }, label),
    h("div", {}, range, box)), set };
}
const pixels = { at: (value) => value, value: (at) => at, step: 1 };
const octaves = { at: (value) => Math.log2(value), value: (at) => Math.round(2 ** at), step: 0.25 };

function render({ model, el }) {
  const inputs = model.get("inputs"), widths = model.get("widths"), p = model.get("parameters");
  const flops = (length, dim) => blockFlops(length, dim, p, model.get("causal"));
  const lengthOf = (input) => input.length ?? imageTokens(input.height, input.width, input.patch);
  const pick = (trait) => (value) => store(model, trait, value);
  const take = (row, traits) => {
    for (const trait of traits) if (trait in row) model.set(trait, row[trait]);
    model.save_changes();
  };

  // Controls
  const inputSelect = select("Input", [h("option", { value: "", disabled: true, hidden: true }, "Another size"),
    inputs.map((input) => h("option", { value: input.label }, input.label))], (label) => {
    const input = inputs.find((one) => one.label === label);
    take({ ...input, kind: "length" in input ? "text" : "image" }, ["kind", "height", "width", "patch", "length"]);
  });
  const height = numberField("Height (pixels)", 1, MAX_SIDE, pick("height"), pixels);
  const width = numberField("Width (pixels)", 1, MAX_SIDE, pick("width"), pixels);
  const patch = select("Patch", PATCHES.map((size) => h("option", { value: size }, by(size, size))),
    (value) => store(model, "patch", Number(value)));
  const length = numberField("Length (tokens)", 1, MAX_LENGTH, pick("length"), octaves);
  const models = radios("Model", widths.map((one) => [one.label, one.label]), "",
    (label) => take(widths.find((one) => one.label === label), ["dim", "depth"]));
  const dim = numberField("Channels D", 1, MAX_DIM, pick("dim"));
  const depth = numberField("Blocks", 1, MAX_DEPTH, pick("depth"));
  const mode = radios("Attention", [["full", "Fully-visible"], ["causal", "Causal"]], "full",
    (value) => store(model, "causal", value === "causal"));

  const size = h("div", { class: "mo-size-fields" });
  let sizeOf = null; // which of its two contents it has

  // Outputs
  const totals = h("dl", { class: "mo-totals" });
  const sentence = h("p", { class: "mo-say", role: "status" });
  const titleId = uid();
  const picture = s("svg", { role: "img", "aria-labelledby": titleId });
  const plot = h("div", { class: "mo-plot mo-length-plot" }, picture);
  const title = h("p", { class: "mo-axis-title", id: titleId });
  const bars = h("div", { class: "mo-length-bars" });
  const costs = h("table"), verdicts = h("table"), places = h("table");
  const root = h("div", { class: "mo mo-length", role: "group", "aria-label": "When is a sequence long?" },
    h("div", { class: "mo-controls" }, inputSelect.element, size, models.element, dim.element, depth.element,
      mode.element),
    totals, sentence, title, plot, bars, h("div", { class: "mo-layers" }, costs),
    h("details", { class: "mo-details" }, h("summary", {}, "Data table (all inputs, all widths)"),
      verdicts, places));

  const row = (cells, tag = "td") => h("tr", {}, h("th", { scope: tag === "th" ? "col" : "row" }, cells[0]),
    cells.slice(1).map((cell) => h(tag, tag === "th" ? { scope: "col" } : {}, cell)));
  const ratio = (tokens, channels) => tokens / lengthThreshold(channels, p, model.get("causal"));
  const word = (r) => (r > 1 ? "long" : "not long");
  const ratioName = () => ["r", h("sub", {}, "L")];
  const rule = () => (model.get("causal") ? "12D" : "6D");

  function say(tokens, channels) {
    const r = ratio(tokens, channels), tau = lengthThreshold(channels, p, model.get("causal"));
    const named = widths.find((one) => one.dim === channels);
    const where = named ? named.label : `a width of ${integer(channels)}`;
    const just = r > NEAR && r < 1 / NEAR && r !== 1 ? "just " : "";
    const side = r > 1 ? `${just}more than` : r === 1 ? "exactly" : `${just}fewer than`;
    const share = percent(r, 1 + r);
    const others = widths.filter((one) => one.dim !== channels);
    const differs = others.some((one) => ratio(tokens, one.dim) > 1 !== r > 1);
    const list = others.map((one) => {
      const other = ratio(tokens, one.dim);
      return `${word(other)} for ${one.label} (${ratioText(other)}${other > NEAR && other < 1 ? ", just under" : ""})`;
    }).join(", ");
    fill(sentence, h("b", {}, r > 1 ? `Long for ${where}: ` : `Not long for ${where}: `),
      `${integer(tokens)} tokens, ${side} ${rule()} = ${integer(tau)}. The part of a Transformer block that grows ` +
      `with L² is ${share} of its FLOPs. `,
      others.length > 0 && (differs ? `The verdict depends on the width: it is ${list}.`
        : `The other widths agree: ${list}.`));
  }

  function draw(tokens, channels, blocks) {
    const { width: w, height: tall } = plot.getBoundingClientRect();
    if (!w) return;
    const px = (value) => LEFT + (Math.log(value / FROM) / Math.log(TO / FROM)) * (w - LEFT - RIGHT);
    const marks = labelled(inputs, px, w);
    const top = LABEL_ROW * (1 + Math.max(...marks.map((mark) => mark.row))) + 8;
    const value = (length, key) => blocks * whole(flops(length, channels)[key]);
    const low = 10 ** Math.floor(Math.log10(value(FROM, "gated_cnn_block") / 3));
    const high = value(TO, "transformer_block") * 1.4;
    const py = (v) => tall - BOTTOM - (Math.log(v / low) / Math.log(high / low)) * (tall - BOTTOM - top);
    const bottom = tall - BOTTOM, right = w - RIGHT;
    const steps = Array.from({ length: 56 }, (_, i) => FROM * (TO / FROM) ** (i / 55));
    const line = (at, attributes) =>
      s("polyline", { fill: "none", ...attributes, points: steps.map((x) => `${px(x)},${py(at(x))}`).join(" ") });
    const powers = [];
    for (let v = low; v <= high; v *= 10) powers.push(v);
    const every = powers.length > 7 && tall < 420 ? 2 : 1;
    const ticks = [64, 256, 1024, 4096, 16384, 65536];
    const tau = lengthThreshold(channels, p, model.get("causal")), x = px(Math.min(TO, Math.max(FROM, tokens)));
    const inside = tokens >= FROM && tokens <= TO;
    picture.setAttribute("viewBox", `0 0 ${w} ${tall}`);
    fill(picture,
      s("g", { class: "mo-axes" },
        powers.filter((_, i) => i % every === 0).map((v) => [
          s("line", { x1: LEFT, x2: right, y1: py(v), y2: py(v) }),
          s("text", { x: LEFT - 6, y: py(v) + 4, "text-anchor": "end" }, flopsText(v).replace(".0", "")),
        ]),
        ticks.map((v) => [
          s("line", { x1: px(v), x2: px(v), y1: bottom, y2: bottom + 5 }),
          s("text", { x: px(v), y: bottom + 19, "text-anchor": "middle" }, v < 1024 ? v : `${v / 1024}K`),
        ]),
        s("line", { class: "mo-base", x1: LEFT, x2: right, y1: bottom, y2: bottom }),
        s("text", { x: right, y: bottom + 38, "text-anchor": "end" }, "tokens L (log scale; 1K = 1,024)")),
      marks.map((mark) => s("g", { class: "mo-mark" },
        s("path", { d: `M${mark.x} ${LABEL_ROW * (mark.row + 1)}V${bottom}` }),
        s("text", { x: mark.left, y: LABEL_ROW * (mark.row + 1) - 4 }, mark.text))),
      tau >= FROM && tau <= TO && s("g", { class: "mo-tau" },
        s("path", { d: `M${px(tau)} ${top}V${bottom}` }),
        s("text", { x: px(tau) - 6, y: bottom - 8, "text-anchor": "end" }, `${rule()} = ${integer(tau)}`)),
      ["linear", "quadratic"].map((part) =>
        line((at) => Math.max(low, blocks * flops(at, channels).transformer_block[part]),
          { class: "mo-part-line", "data-part": part, style: `stroke:${PARTS[part].colour}` })),
      Object.entries(BLOCKS).reverse().map(([key, { colour, stroke }]) => line((at) => value(at, key),
        { class: "mo-curve", "data-block": key, style: `stroke:${colour};stroke-width:${stroke}` })),
      inside && s("path", { class: "mo-here", d: `M${x} ${top}V${bottom}` }),
      inside && Object.entries(BLOCKS).map(([key, { colour }]) =>
        s("circle", { cx: x, cy: py(value(tokens, key)), r: 5, class: "mo-spot", style: `fill:${colour}` })));
  }

  let redraw = () => {};
  function update() {
    const get = (trait) => model.get(trait);
    const isText = get("kind") === "text", channels = get("dim"), blocks = get("depth");
    const tokens = isText ? get("length") : imageTokens(get("height"), get("width"), get("patch"));
    const same = (input) => (isText ? input.length === tokens
      : ["height", "width", "patch"].every((trait) => input[trait] === get(trait)));
    inputSelect.control.value = inputs.find((input) => "length" in input === isText && same(input))?.label ?? "";
    if (sizeOf !== get("kind")) {
      sizeOf = get("kind");
      fill(size, (isText ? [length] : [height, width, patch]).map((one) => one.element));
    }
    height.set(get("height"));
    width.set(get("width"));
    length.set(get("length"));
    patch.control.value = get("patch");
    models.set(widths.find((one) => one.dim === channels && one.depth === blocks)?.label ?? "");
    dim.set(channels);
    depth.set(blocks);
    mode.set(get("causal") ? "causal" : "full");

    const now = flops(tokens, channels), { linear, quadratic } = now.transformer_block;
    const tile = (name, value, note) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, h("b", {}, value)), h("dd", { class: "mo-note" }, note));
    const patches = (side) => Math.ceil(side / get("patch"));
    fill(totals,
      tile("Tokens L", integer(tokens), isText ? "the text's length"
        : `${by(patches(get("height")), patches(get("width")))} patches`),
      tile([ratioName(), ` = L / ${rule()}`], ratioText(ratio(tokens, channels)),
        `threshold ${rule()} = ${integer(lengthThreshold(channels, p, get("causal")))} tokens`),
      tile("Quadratic share", percent(quadratic, linear + quadratic), "of a Transformer block's FLOPs"));
    say(tokens, channels);
    title.textContent = `FLOPs of ${blocks} block${blocks > 1 ? "s" : ""} of ${channels} channels against tokens. Thin ` +
      "lines: the two parts of the Transformer block, which cross at the threshold. The Mamba and the Gated CNN block " +
      "nearly coincide.";
    const most = Math.max(...Object.values(now).map(whole));
    fill(bars, Object.entries(BLOCKS).map(([key, { name, colour, stroke }]) => {
      const parts = Object.entries(now[key]).map(([part, value]) => ({ key: part, ...PARTS[part], value }));
      const bar = shareBar(name, parts);
      bar.querySelector(".mo-bar").style.width = `${Math.max(1.5, (100 * whole(now[key])) / most)}%`;
      bar.firstChild.prepend(s("svg", { class: "mo-key", viewBox: "0 0 26 8", "aria-hidden": "true" },
        s("path", { d: "M0 4H26", class: "mo-curve", style: `stroke:${colour};stroke-width:${stroke}` })));
      return bar;
    }));
    fill(costs, h("caption", {}, `One forward pass through ${blocks} block${blocks > 1 ? "s" : ""}`),
      h("thead", {}, row(["Block", "FLOPs", "of which", "to Gated CNN"], "th")),
      h("tbody", {}, Object.entries(BLOCKS).map(([key, { name }]) => {
        const [part] = Object.keys(now[key]).slice(-1);
        return row([name, flopsText(blocks * whole(now[key])), key === "gated_cnn_block" ? "–" : [
          h("i", { class: "mo-swatch", style: `background:${PARTS[part].colour}` }),
          `${percent(now[key][part], whole(now[key]))} ${part === "ssm" ? "SSM" : "L²"}`],
        `${(whole(now[key]) / whole(now.gated_cnn_block)).toFixed(2)}\u00a0×`]);
      })));
    fill(verdicts, h("caption", {}, `${integer(tokens)} tokens at every width`),
      h("thead", {}, row(["Width", rule(), ratioName(), "verdict"], "th")),
      h("tbody", {}, widths.map((one) => row([`${one.label}, D = ${one.dim}`,
        integer(lengthThreshold(one.dim, p, get("causal"))), ratioText(ratio(tokens, one.dim)),
        word(ratio(tokens, one.dim))]))));
    fill(places, h("caption", {}, ratioName(), ` = L / ${rule()} of every input`),
      h("thead", {}, row(["Input", "L", ...widths.map((one) => one.label)], "th")),
      h("tbody", {}, inputs.map((input) => row([input.label, integer(lengthOf(input)),
        ...widths.map((one) => ratioText(ratio(lengthOf(input), one.dim)))]))));
    redraw = () => draw(tokens, channels, blocks);
    redraw();
  }

  /** Marks of the inputs on the axis: near ones share a label, and each label takes the first row with room for it. */
  function labelled(rows, px, w) {
    const groups = [];
    for (const input of [...rows].sort((a, b) => lengthOf(a) - lengthOf(b))) {
      const x = px(lengthOf(input)), last = groups.at(-1);
      if (last && x - last.x < 8) last.text += `, ${input.label}`;
      else if (x >= LEFT && x <= w - RIGHT) groups.push({ x, text: input.label });
    }
    const ends = [];
    for (const mark of groups) {
      const wide = 7 * mark.text.length;
      mark.left = Math.max(LEFT, Math.min(mark.x - wide / 2, w - wide));
      mark.row = [...ends, -1].findIndex((end) => end < mark.left);
      ends[mark.row] = mark.left + wide + 6;
    }
    return groups;
  }

  el.append(root);
  update();
  const resize = new ResizeObserver(() => redraw());
  resize.observe(plot);
  const stop = observe(model, ["kind", "height", "width", "patch", "length", "dim", "depth", "causal"], update);
  return () => {
    stop();
    resize.disconnect();
    root.remove();
  };
}

export default { render };
