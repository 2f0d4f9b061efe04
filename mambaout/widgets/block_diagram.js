// The Gated CNN / Mamba block with three switches. In the picture the width of a band is its number of channels.

const PARTS = {
  norm: { name: "LayerNorm", colour: "var(--pool)" },
  fc1_value: { name: "Linear W₁ (value)", colour: "var(--plain)" },
  fc1_gate: { name: "Linear W₂ (gate)", colour: "var(--gate)" },
  conv: { name: "Depthwise convolution", colour: "var(--conv)" },
  ssm: { name: "SSM", colour: "var(--ssm)" },
  fc2: { name: "Linear W₃ (output)", colour: "var(--plain-2)" },
};
const SWITCHES = { ssm: "SSM", gate: "Gate", conv: "Convolution" };

/** What the block is, given the switches in the order SSM, gate, convolution. */
const NAMES = {
  "011": "Gated CNN block (MambaOut)",
  "111": "Mamba block",
  "010": "Gated MLP (no token mixing)",
  "110": "Mamba block without convolution",
  "001": "Convolution without gate",
  "101": "Mamba block without gate",
  "100": "SSM between two linear layers",
  "000": "Two linear layers (no token mixing)",
};

function explain(part, p) {
  const rest = p.hidden - p.conv_channels;
  const unchanged = rest ? `; the other ${rest} pass unchanged` : "";
  return {
    norm: `Normalises each token over its ${p.dim} channels. No token sees another here.`,
    fc1_value: `Takes each token from ${p.dim} to ${p.hidden} channels: the values that the token mixer works on.`,
    fc1_gate: "A second linear layer of the same size. Through the activation σ it becomes the gate, which scales " +
      "every value channel of the same token.",
    conv: `Mixes each token with its ${by(p.kernel_size, p.kernel_size)} neighbourhood, one filter a channel, on ` +
      `${p.conv_channels} of the ${p.hidden} value channels${unchanged}.`,
    ssm: `Selective state space model on the same ${p.conv_channels} channels: it reads the ` +
      `${integer(p.height * p.width)} tokens in order and keeps ${p.d_state} numbers a channel (rank of Δ: ` +
      `${p.dt_rank}). Causal: no token sees a later one.`,
    fc2: `Takes each token from ${p.hidden} back to ${p.dim} channels; then the block's input is added.`,
  }[part];
}

/** The paper's Eqs. 8-11 for what is switched on; a line that the paper does not print has no number. */
function equations(on) {
  const v = (name, sub) => [h("i", {}, name), sub && h("sub", {}, sub)];
  const normed = () => [v("X"), "′"];
  const mixed = ["TokenMixer(", normed(), v("W", "1"), ")"];
  const gated = on.gate ? ["(", mixed, " ⊙ σ(", normed(), v("W", "2"), "))"] : mixed;
  const local = on.conv ? ["Conv(", v("Z"), ")"] : v("Z");
  const line = (number, ...content) => h("p", {}, h("span", {}, content),
    number && h("small", {}, hidden("Equation "), `(${number})`, hidden(" of the paper")));
  return [line(8, normed(), " = Norm(", v("X"), ")"),
    line(on.gate && 9, v("Y"), " = ", gated, " ", v("W", "3"), " + ", v("X")),
    line(on.conv && (on.ssm ? 11 : 10), "TokenMixer(", v("Z"), ") = ", on.ssm ? ["SSM(σ(", local, "))"] : local)];
}

// The picture, 400 units wide; `hidden` channels are SPAN units wide.
const SPAN = 164, VALUE = 122, GATE = 310, TRUNK = 216, SKIP = 14;

function picture(p, on, costs, onpoint, titleId) {
  const unit = SPAN / p.hidden;
  const d = p.dim * unit, right = VALUE + SPAN / 2, split = right - p.conv_channels * unit, mid = (split + right) / 2;
  const shape = (channels) => by(p.height, p.width, channels);
  // All text lies in one layer above the shapes; assistive technology reads the parts' names instead.
  const writing = [];
  const text = (x, y, content, className = "") =>
    void writing.push(s("text", { x, y, class: className, "text-anchor": "middle" }, content));
  /** A band from (x0, y0) to (x1, y1), w0 and w1 wide. */
  const band = (cls, x0, w0, y0, x1 = x0, w1 = w0, y1) => {
    const [a, b, c, e] = [x0 - w0 / 2, x0 + w0 / 2, x1 + w1 / 2, x1 - w1 / 2], m = (y0 + y1) / 2;
    return s("path", { class: `mo-band ${cls}`,
      d: `M${a} ${y0}H${b}C${b} ${m} ${c} ${m} ${c} ${y1}H${e}C${e} ${m} ${a} ${m} ${a} ${y0}Z` });
  };
  const column = (cls, x0, x1, y0, y1) => band(cls, (x0 + x1) / 2, x1 - x0, y0, undefined, undefined, y1);
  const trapezoid = (x, top, bottom, y) => s("path", { class: "mo-box",
    d: `M${x - top / 2} ${y}H${x + top / 2}L${x + bottom / 2} ${y + 44}H${x - bottom / 2}Z` });
  const box = (x, w, y, height) => s("rect", { class: "mo-box", x: x - w / 2, y, width: w, height, rx: 7 });
  const disc = (x, y) => s("circle", { class: "mo-box", cx: x, cy: y, r: 14 });
  const part = (key, isOn, ...content) => s("g", {
    class: `mo-part${isOn ? "" : " mo-off"}`, style: `--part:${PARTS[key].colour}`, role: "button", tabindex: 0,
    "data-part": key, "aria-label": `${PARTS[key].name}: ` +
      (isOn ? `${integer(costs[key].params)} parameters, ${compact(costs[key].macs)} MACs` : "off"),
    onpointerenter: () => onpoint(key), onfocus: () => onpoint(key), onclick: () => onpoint(key),
    onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), onpoint(key)),
  }, content);
  const gateBand = on.gate ? "mo-gate" : "mo-gate mo-off";
  const convBand = on.ssm ? "mo-ssm" : on.conv ? "mo-conv" : "";
  const faint = (isOn) => (isOn ? "" : "mo-faint");
  const left = VALUE - SPAN / 2, w = Math.max(right - split, 58);

  text(TRUNK, 16, ["X: ", shape(p.dim)]);
  text(TRUNK, 76, "LayerNorm");
  text(VALUE, 152, "Linear W₁");
  text(GATE, 152, "Linear W₂", faint(on.gate));
  text(VALUE, 187, shape(p.hidden));
  text(GATE, 187, on.gate ? shape(p.hidden) : "off", faint(on.gate));
  text(GATE, 290, "σ", faint(on.gate));
  text(mid, 215, String(p.conv_channels));
  text(mid, 240, "Conv", faint(on.conv));
  text(mid, 256, by(p.kernel_size, p.kernel_size), `mo-small ${faint(on.conv)}`);
  text(mid, 293, "σ", faint(on.ssm));
  text(mid, 338, "SSM", faint(on.ssm));
  const aside = [p.hidden - p.conv_channels, "channels", "pass"];
  if (split - left > 70) aside.forEach((word, i) => text((left + split - 3) / 2, 272 + 18 * i, word));
  if (on.gate) text(TRUNK, 444, "⊙");
  text(TRUNK, 472, shape(p.hidden));
  text(TRUNK, 505, "Linear W₃");
  text(TRUNK, 548, "+");
  text(TRUNK, 581, ["Y: ", shape(p.dim)]);

  return s("svg", { viewBox: "0 0 400 590", role: "group", "aria-labelledby": titleId },
    s("path", { class: "mo-skip", d: `M${TRUNK - d / 2} 37H${SKIP}V542H${TRUNK - 14}` }),
    column("", TRUNK - d / 2, TRUNK + d / 2, 24, 54),
    band(gateBand, TRUNK, d, 88, GATE, d, 124),
    band("", TRUNK, d, 88, VALUE, d, 124),
    column("", left, right, 168, 196),
    column(gateBand, GATE - SPAN / 2, GATE + SPAN / 2, 168, 394),
    split > left && column("", left, split - 3, 199, 368),
    column(convBand, split, right, 199, 368),
    column("", left, right, 371, 394),
    on.gate && band(gateBand, GATE, SPAN, 394, TRUNK, SPAN, 440),
    band("", VALUE, SPAN, 394, TRUNK, SPAN, 440),
    column("", TRUNK - SPAN / 2, TRUNK + SPAN / 2, 440, 478),
    column("", TRUNK - d / 2, TRUNK + d / 2, 522, 562),
    part("norm", true, box(TRUNK, 120, 54, 34)),
    part("fc1_value", true, trapezoid(VALUE, d, SPAN, 124)),
    part("fc1_gate", on.gate, trapezoid(GATE, d, SPAN, 124), disc(GATE, 284), on.gate && disc(TRUNK, 438)),
    part("conv", on.conv, box(mid, w, 222, 42)),
    part("ssm", on.ssm, disc(mid, 288), box(mid, w, 312, 42)),
    part("fc2", true, trapezoid(TRUNK, SPAN, d, 478)),
    s("circle", { class: "mo-plus", cx: TRUNK, cy: 542, r: 14 }),
    s("g", { class: "mo-writing", "aria-hidden": "true" }, writing));
}

function render({ model, el }) {
  const presets = model.get("presets");
  const titleId = uid();
  let pointed = null;

  const presetSelect = select("Block of", presets.map((preset) => h("option", { value: preset.label }, preset.label)),
    (label) => store(model, "preset", label));
  const switches = Object.entries(SWITCHES).map(([trait, name]) => {
    const input = h("input", { type: "checkbox", role: "switch", onchange: () => store(model, trait, input.checked) });
    const element = h("label", { class: "mo-switch" }, input, h("i", { "aria-hidden": "true" }), name);
    return { trait, input, element };
  });
  const title = h("p", { class: "mo-head mo-big-head", id: titleId });
  const sentence = h("p", { class: "mo-say", role: "status" });
  const formula = h("div", { class: "mo-formula", role: "group", "aria-label": "Equations of the block" });
  const hint = h("p", { class: "mo-explain", "aria-live": "polite" });
  const drawing = h("div", { class: "mo-drawing" });
  const bars = h("div");
  const table = h("table");
  const root = h("div", { class: "mo mo-block", role: "group", "aria-label": "Block diagram" },
    h("div", { class: "mo-controls" }, presetSelect.element,
      h("fieldset", { class: "mo-switches" }, h("legend", {}, "Parts"),
        h("div", {}, switches.map((one) => one.element)))),
    h("div", { class: "mo-columns" }, h("div", {}, drawing, hint),
      h("div", { class: "mo-facts" }, title, sentence, formula, bars, table)));

  const preset = () => presets.find((one) => one.label === model.get("preset")) ?? presets[0];

  /** Marks a part in the picture and in the table, and says what it does. */
  function point(key) {
    pointed = key;
    root.querySelectorAll("[data-part]").forEach((node) => node.classList.toggle("mo-near", node.dataset.part === key));
    const costs = preset().components.find((one) => one.name === key);
    fill(hint, key
      ? [h("b", {}, PARTS[key].name), ` (${costs.equation}). ${explain(key, preset())}`]
      : "Point at a part, tap it or tab to it to see what it does. The width of a band is its number of channels.");
  }

  function update() {
    const p = preset();
    const [ssm, gate, conv] = Object.keys(SWITCHES).map((trait) => model.get(trait));
    const enabled = { norm: true, fc1_value: true, fc1_gate: gate, conv, ssm, fc2: true };
    const costs = Object.fromEntries(p.components.map((one) => [one.name, one]));
    const sum = (metric, keys) => keys.reduce((total, key) => total + costs[key][metric], 0);
    const used = Object.keys(PARTS).filter((key) => enabled[key]);
    const total = { params: sum("params", used), macs: sum("macs", used) };
    const others = used.filter((key) => key !== "ssm");
    const extra = (metric) => percent(costs.ssm[metric], sum(metric, others));

    presetSelect.control.value = p.label;
    switches.forEach(({ trait, input }) => (input.checked = model.get(trait)));
    title.textContent = NAMES[[ssm, gate, conv].map(Number).join("")];
    const mixing = ssm && conv ? "Tokens mix in the convolution (neighbours) and in the SSM (earlier tokens). "
      : ssm ? "Tokens mix in the SSM alone (earlier tokens). "
        : conv ? `Tokens mix in the convolution alone (${by(p.kernel_size, p.kernel_size)} neighbours). `
          : "No token sees another. ";
    fill(sentence, h("b", {}, `${integer(total.params)} parameters, ${compact(total.macs)} MACs. `), mixing,
      `${ssm ? "The SSM adds" : "An SSM would add"} ${extra("params")} parameters and ${extra("macs")} MACs.`);
    fill(formula, equations({ ssm, gate, conv }));
    const focused = drawing.contains(document.activeElement) ? document.activeElement.dataset.part : null;
    fill(drawing, picture(p, { ssm, gate, conv }, costs, point, titleId));
    if (focused) drawing.querySelector(`[data-part="${focused}"]`).focus();
    const shares = (metric) => used.map((key) => ({ key, ...PARTS[key], value: costs[key][metric] }));
    fill(bars, shareBar("Parameters", shares("params")), shareBar("MACs", shares("macs")));
    fill(table,
      h("caption", { class: "mo-hidden" }, "Parameters and MACs of each part"),
      h("thead", {}, h("tr", {}, ["Part", "Parameters", "MACs"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, Object.entries(PARTS).map(([key, { name, colour }]) =>
        h("tr", { "data-part": key, class: enabled[key] ? "" : "mo-off", onpointerenter: () => point(key) },
          h("th", { scope: "row" }, h("i", { class: "mo-swatch", style: `background:${colour}` }), name,
            enabled[key] ? null : h("small", {}, " off")),
          h("td", {}, enabled[key] ? integer(costs[key].params) : "–"),
          h("td", {}, enabled[key] ? compact(costs[key].macs) : "–")))),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "Total"), h("td", {}, integer(total.params)),
        h("td", {}, compact(total.macs)))));
    point(pointed);
  }

  root.addEventListener("keydown", (event) => event.key === "Escape" && point(null));
  el.append(root);
  update();
  const stop = observe(model, ["preset", ...Object.keys(SWITCHES)], update);
  return () => {
    stop();
    root.remove();
  };
}

export default { render };
