// A recipe as a schedule: batch, epochs and warm-up give rates, steps, and the time at a given speed.

const PAD = { left: 58, right: 14, top: 12, bottom: 42 }; // of the plot, in pixels
const EPOCHS = [1, 400], BATCHES = [64, 128, 256, 512, 1024, 2048, 4096, 8192], DEVICES = [1, 2, 4, 8, 16];
const POINTS = 240; // of the curve

const short = (value) => (value === 0 ? "0" : value >= 0.001 ? String(Number(value.toPrecision(2)))
  : value.toExponential(1).replace(".0", "").replace("-", "\u2212"));
const share = (value) => (value < 0.0005 ? "less than 0.1\u00a0%" : `${(100 * value).toFixed(1)}\u00a0%`);
/** 5400 -> ["1.5", "hours"] */
function time(seconds) {
  const [unit, size] = seconds >= 172800 ? ["days", 86400] : seconds >= 5400 ? ["hours", 3600]
    : seconds >= 90 ? ["minutes", 60] : ["seconds", 1];
  const value = seconds / size;
  return [value >= 100 ? integer(Math.round(value)) : value.toPrecision(2), unit];
}

/** A range input with its label, and its value in words beside it. */
function slider(label, least, most, step, words, onpick) {
  const id = uid(), said = h("span", { "aria-hidden": "true" }); // the slider itself says it
  const input = h("input", { id, type: "range", min: least, max: most, step,
    oninput: () => onpick(input.valueAsNumber) });
  const set = (value) => {
    input.value = value;
    said.textContent = words(value);
    input.setAttribute("aria-valuetext", words(value));
  };
  return { element: h("div", { class: "mo-field mo-slide" }, h("label", { for: id }, label),
    h("div", {}, input, said)), input, set };
}

function render({ model, el }) {
  const recipes = model.get("recipes"), speeds = model.get("speeds");
  const traits = ["recipe", "batch_size", "epochs", "warmup_epochs", "devices", "speed"];
  const pick = (trait) => (value) => store(model, trait, value);

  const recipeSelect = select("Recipe", recipes.map((one) => h("option", { value: one.label }, one.label)), (label) => {
    const chosen = recipes.find((one) => one.label === label);
    model.set("recipe", label);
    for (const trait of ["batch_size", "epochs", "warmup_epochs"]) model.set(trait, chosen[trait]);
    model.save_changes();
  });
  const batch = select("Batch (images)", BATCHES.map((size) => h("option", { value: size }, integer(size))),
    (value) => store(model, "batch_size", Number(value)));
  const epochs = slider("Epochs", ...EPOCHS, 1, (n) => String(n), (value) => {
    model.set("epochs", value);
    model.set("warmup_epochs", Math.min(model.get("warmup_epochs"), value - 1));
    model.save_changes();
  });
  const warmup = slider("Warm-up (epochs)", 0, 60, 1, (n) => String(n),
    (value) => store(model, "warmup_epochs", Math.min(value, model.get("epochs") - 1)));
  const speed = select("Speed", speeds.map((one) => h("option", { value: one.label }, one.label)), pick("speed"));
  const devices = select("Devices", DEVICES.map((count) => h("option", { value: count }, count)),
    (value) => store(model, "devices", Number(value)));

  const totals = h("dl", { class: "mo-totals" }), say = h("p", { class: "mo-say", role: "status" });
  const titleId = uid();
  const picture = s("svg", { role: "img", "aria-labelledby": titleId });
  const plot = h("div", { class: "mo-plot mo-recipe-plot" }, picture);
  const table = h("table");
  const root = h("div", { class: "mo mo-recipe", role: "group", "aria-label": "From a recipe to rates, steps and time" },
    h("div", { class: "mo-controls" }, recipeSelect.element, batch.element, epochs.element, warmup.element,
      speed.element, devices.element),
    totals, say, h("p", { class: "mo-axis-title", id: titleId }, "Learning rate against epochs; the warm-up is shaded."),
    plot, h("details", { class: "mo-details" }, h("summary", {}, "Data table (rate by epoch)"), table));

  function current() {
    const base = recipes.find((one) => one.label === model.get("recipe"));
    return { ...base, batch_size: model.get("batch_size"), epochs: model.get("epochs"),
      warmup_epochs: model.get("warmup_epochs") };
  }

  function draw(recipe, plan) {
    const { width, height } = plot.getBoundingClientRect();
    if (!width) return;
    const span = recipe.epochs + recipe.cooldown_epochs, bottom = height - PAD.bottom, right = width - PAD.right;
    const px = (epoch) => PAD.left + ((right - PAD.left) * epoch) / span;
    const py = (rate) => bottom - ((bottom - PAD.top) * rate) / plan.peak;
    const at = [...Array(POINTS + 1).keys()].map((i) => Math.round((i / POINTS) * (plan.steps - 1)));
    const places = [...new Set([...at, plan.warmup])].filter((t) => t < plan.steps).sort((a, b) => a - b);
    const every = [1, 2, 5, 10, 20, 50, 100].find((step) => span / step <= 7) ?? 100;
    const ticks = [...Array(Math.floor(span / every) + 1).keys()].map((i) => i * every);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    fill(picture,
      s("rect", { class: "mo-warm", x: PAD.left, y: PAD.top, height: bottom - PAD.top,
        width: px(plan.warmup / plan.perEpoch) - PAD.left }),
      s("g", { class: "mo-axes" },
        [0, 0.5, 1].map((part) => [
          s("line", { x1: PAD.left, x2: right, y1: py(part * plan.peak), y2: py(part * plan.peak) }),
          s("text", { x: PAD.left - 6, y: py(part * plan.peak) + 4, "text-anchor": "end" }, short(part * plan.peak)),
        ]),
        ticks.map((epoch) => [
          s("line", { x1: px(epoch), x2: px(epoch), y1: bottom, y2: bottom + 5 }),
          s("text", { x: px(epoch), y: bottom + 19, "text-anchor": "middle" }, epoch),
        ]),
        s("line", { class: "mo-base", x1: PAD.left, x2: right, y1: bottom, y2: bottom }),
        s("text", { x: right, y: bottom + 37, "text-anchor": "end" }, "epoch")),
      s("polyline", { class: "mo-line",
        points: places.map((t) => `${px(t / plan.perEpoch)},${py(plan.rate(t))}`).join(" ") }));
  }

  let redraw = () => {};
  function update() {
    const recipe = current(), plan = trainingPlan(recipe);
    const count = model.get("devices"), rate = speeds.find((one) => one.label === model.get("speed")).images_per_second;
    recipeSelect.control.value = model.get("recipe");
    batch.control.value = recipe.batch_size;
    epochs.set(recipe.epochs);
    warmup.input.max = Math.min(60, recipe.epochs - 1);
    warmup.set(recipe.warmup_epochs);
    speed.control.value = model.get("speed");
    devices.control.value = count;

    const [took, unit] = time(plan.seen / (rate * count));
    const tile = (name, value, note) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, h("b", {}, value)), h("dd", { class: "mo-note" }, note));
    fill(totals,
      tile("Peak learning rate", short(plan.peak), `${short(recipe.lr)} for each ${integer(recipe.lr_batch)} images`),
      tile("Steps", integer(plan.steps), `${integer(plan.perEpoch)} in an epoch`),
      tile("Images seen", compact(plan.seen), `${integer(recipe.images)} in the set`),
      tile("Time", `${took} ${unit}`, `${count} × ${rate < 10 ? rate.toFixed(1) : integer(Math.round(rate))} images/s`));
    fill(say, `Weight decay of ${recipe.weight_decay} alone would leave ${share(plan.left)} of a weight.`);
    const marks = [...new Set([0, recipe.warmup_epochs, ...[0.25, 0.5, 0.75, 1].map((p) => Math.round(p * recipe.epochs))])];
    fill(table, h("caption", {}, "Learning rate at the beginning of an epoch"),
      h("thead", {}, h("tr", {}, ["Epoch", "Rate"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, marks.sort((a, b) => a - b).map((epoch) => h("tr", {}, h("th", { scope: "row" }, epoch),
        h("td", {}, plan.rate(Math.min(epoch * plan.perEpoch, plan.steps - 1)).toExponential(2).replace("-", "\u2212"))))));
    redraw = () => draw(recipe, plan);
    redraw();
  }

  el.append(root);
  update();
  const resize = new ResizeObserver(() => redraw());
  resize.observe(plot);
  const stop = observe(model, traits, update);
  return () => {
    stop();
    resize.disconnect();
    root.remove();
  };
}

export default { render };
