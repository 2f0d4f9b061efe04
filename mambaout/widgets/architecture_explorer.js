// From the whole network to a single layer: shapes, parameters and MACs of every variant at any resolution.

const LEAST = 32, MOST = 1024; // pixels
const PARTS = ["Stem", "Stage 1", "Stage 2", "Stage 3", "Stage 4", "Head"];
const partOf = (layer) => ({ stem: 0, head: 5 })[layer.group] ?? layer.stage + 1;

/** Side of the feature map after `halvings` convolutions of stride 2, each ceil(side / 2); one position in the head. */
function side(resolution, halvings) {
  if (halvings == null) return 1;
  let length = resolution;
  for (let i = 0; i < halvings; i++) length = Math.ceil(length / 2);
  return length;
}

/** A box as high and deep as the feature map and as long as it has channels, all on a compressed scale (power 0.4). */
function cuboid(length, channels, colour) {
  const a = 7.4 * length ** 0.4, c = 4.2 * channels ** 0.4, o = 0.4 * a;
  const x = (100 - c - o) / 2, y = 96 - a;
  const face = (d, shade) => s("path", { d, style: `fill:color-mix(in srgb, ${colour}, ${shade})` });
  return s("svg", { viewBox: "0 0 100 97", "aria-hidden": "true" },
    face(`M${x} ${y}h${c}v${a}h${-c}z`, "black 0%"),
    face(`M${x} ${y}l${o} ${-o}h${c}l${-o} ${o}z`, "white 35%"),
    face(`M${x + c} ${y}l${o} ${-o}v${a}l${-o} ${o}z`, "black 25%"));
}

function render({ model, el }) {
  const variants = new Map(model.get("variants").map((variant) => [variant.name, variant]));
  let part = 1, block = "0", listed = "";

  const short = (label) => label.slice(label.lastIndexOf("-") + 1);
  const variantRadios = radios("Variant", [...variants.values()].map((one) => [one.name, short(one.label)]),
    model.get("variant"), (name) => store(model, "variant", name));
  const sizeId = uid();
  const resize = (value) =>
    Number.isInteger(value) && value >= LEAST && value <= MOST && store(model, "resolution", value);
  const slider = h("input", { type: "range", min: LEAST, max: MOST, step: 32, "aria-labelledby": sizeId,
    oninput: () => resize(slider.valueAsNumber) });
  const box = h("input", { type: "number", min: LEAST, max: MOST, step: 1, "aria-label": "Height and width in pixels",
    oninput: () => resize(box.valueAsNumber),
    onchange: () => {
      const asked = Math.round(box.valueAsNumber);
      if (Number.isFinite(asked)) resize(Math.min(MOST, Math.max(LEAST, asked)));
      box.value = model.get("resolution");
    } });
  const holders = PARTS.map(() => h("span", { class: "mo-stage" }));
  const partRadios = radios("Part of the network (sizes on a compressed scale)",
    holders.map((holder, i) => [String(i), holder]), String(part),
    (value) => { part = Number(value); block = "0"; update(); }, "mo-stages");

  const totals = h("dl", { class: "mo-totals" });
  const bars = h("div", { class: "mo-bars" });
  const sentence = h("p", { class: "mo-say", role: "status" });
  const blocks = h("div");
  const table = h("table");
  const overview = h("table");
  const root = h("div", { class: "mo mo-architecture", role: "group", "aria-label": "Architecture explorer" },
    h("div", { class: "mo-controls" }, variantRadios.element,
      h("div", { class: "mo-size" }, h("span", { id: sizeId, class: "mo-label" }, "Image height and width"),
        h("div", {}, slider, box, h("span", { class: "mo-note" }, "px")))),
    totals, partRadios.element, bars, sentence, blocks, h("div", { class: "mo-layers" }, table),
    h("details", { class: "mo-details" }, h("summary", {}, "Data table (all parts)"), overview));

  const row = (cells, tag = "td") => h("tr", {}, h("th", { scope: tag === "th" ? "col" : "row" }, cells[0]),
    cells.slice(1).map((cell) => h(tag, tag === "th" ? { scope: "col" } : {}, cell)));

  function update() {
    const variant = variants.get(model.get("variant")), resolution = model.get("resolution");
    const layers = variant.layers.map((layer) => {
      const length = side(resolution, layer.halvings);
      return { ...layer, length, macs: layer.macs_per_position * length * length, part: partOf(layer) };
    });
    const sum = (some, metric) => some.reduce((total, layer) => total + layer[metric], 0);
    const whole = { params: sum(layers, "params"), macs: sum(layers, "macs") };
    const parts = PARTS.map((name, i) => {
      const own = layers.filter((layer) => layer.part === i);
      const last = own.at(-1);
      return { name, own, last, depth: variant.depths[i - 1], colour: `var(--shade-${i})`,
        params: sum(own, "params"), macs: sum(own, "macs") };
    });

    variantRadios.set(variant.name);
    slider.value = resolution;
    slider.setAttribute("aria-valuetext", `${resolution} by ${resolution} pixels`);
    if (document.activeElement !== box) box.value = resolution;

    const published = (paper, unit, ours, where = "") => {
      if (paper == null) return "Not published";
      const verdict = ours == null ? "" : ours === paper.toFixed(1) ? " (equal)" : " (differs)";
      return `Published${where}: ${paper.toFixed(1)}\u00a0${unit}${verdict}`;
    };
    const paramsM = (whole.params / 1e6).toFixed(1), macsG = whole.macs / 1e9;
    const at224 = resolution === 224;
    const tile = (name, value, unit, note) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, h("b", {}, value), ` ${unit}`), h("dd", { class: "mo-note" }, note));
    fill(totals,
      tile("Parameters", paramsM, "M", published(variant.paper.params_M, "M", paramsM)),
      tile(`MACs at ${by(resolution, resolution)}`, macsG.toFixed(macsG < 0.95 ? 2 : 1), "G", at224
        ? published(variant.paper.macs_G, "G", macsG.toFixed(1))
        : published(variant.paper.macs_G, "G", null, ` at ${by(224, 224)}`)),
      tile("ImageNet top-1", variant.paper.top1?.toFixed(1) ?? "–", "%",
        variant.paper.top1 == null ? "Not published" : `Published at ${by(224, 224)}`));

    parts.forEach((one, i) => {
      if (!one.last) return fill(holders[i], h("b", {}, one.name));
      fill(holders[i], cuboid(one.last.length, one.last.out_channels, one.colour), h("b", {}, one.name),
        h("span", {}, by(one.last.length, one.last.length)),
        h("span", {}, `${one.last.out_channels} ${i === 5 ? "outputs" : "channels"}`),
        h("span", {}, one.depth ? `${one.depth} block${one.depth > 1 ? "s" : ""}` : "\u00a0"));
    });
    const shares = (metric) => parts.map(({ name, colour, ...one }) => ({ name, colour, value: one[metric] }));
    fill(bars, shareBar("Parameters", shares("params")), shareBar("MACs", shares("macs")));

    const now = parts[part];
    if (block !== "down" && Number(block) >= (now.depth ?? 1)) block = "0";
    if (listed !== `${variant.name} ${part}`) {
      listed = `${variant.name} ${part}`;
      const choices = Array.from({ length: now.depth ?? 0 }, (_, i) => [String(i), [hidden("Block "), String(i + 1)]]);
      if (now.own.some((layer) => layer.group === "downsample")) choices.unshift(["down", "Downsample"]);
      else if (block === "down") block = "0";
      fill(blocks, choices.length > 0 &&
        radios(`Blocks of ${now.name.toLowerCase()}`, choices, block,
          (value) => { block = value; update(); }, "mo-blocks").element);
    }
    const key = (layer) => (layer.group === "downsample" ? "down" : String(layer.block));
    const chosen = now.own.filter((layer) => !now.depth || key(layer) === block);
    const named = now.depth ? `${now.name}, ${block === "down" ? "downsample" : `block ${Number(block) + 1}`}` : now.name;
    fill(sentence, h("b", {}, `${variant.label}, ${now.name.toLowerCase()}`), `: ${percent(now.params, whole.params)} ` +
      `of the parameters and ${percent(now.macs, whole.macs)} of the MACs at ${by(resolution, resolution)}.`);
    fill(table, h("caption", {}, named),
      h("thead", {}, row(["Layer", "Output", "Parameters", "MACs"], "th")),
      h("tbody", {}, chosen.map((layer) => row([[layer.layer, " ", h("small", {}, layer.kind)],
        [by(layer.length, layer.length), ` ×\u00a0${layer.out_channels}`],
        integer(layer.params), compact(layer.macs)]))),
      h("tfoot", {}, row(["Sum", "", integer(sum(chosen, "params")), compact(sum(chosen, "macs"))])));
    fill(overview, h("caption", {}, `${variant.label} at ${by(resolution, resolution)}`),
      h("thead", {}, row(["Part", "Parameters", "MACs"], "th")),
      h("tbody", {}, parts.map((one) => row([one.name, integer(one.params), compact(one.macs)]))),
      h("tfoot", {}, row(["Total", integer(whole.params), compact(whole.macs)])));
  }

  el.append(root);
  update();
  const stop = observe(model, ["variant", "resolution"], update);
  return () => {
    stop();
    root.remove();
  };
}

export default { render };
