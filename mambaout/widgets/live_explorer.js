const SWITCHES = { gate: "Gate", conv: "Convolution", ssm: "SSM" };
const OFF = { gate: "the gate multiplies by 1", conv: "the convolution hands on what it receives",
  ssm: "the SSM hands on what it receives" };

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const place = ([row, column]) => `row ${row + 1}, column ${column + 1}`;

function render({ model, el }) {
  const rows = model.get("models"), classes = model.get("classes"), labels = model.get("labels");
  const size = model.get("size"), count = size[0] * size[1];
  const pictures = array(model.get("pictures"));
  const maps = rows[0].maps, blocks = rows[0].blocks;
  const parts = [...new Set(rows.flatMap((row) => row.parts))];
  const switches = Object.fromEntries(parts.map((name) => [name, blocks.map(() => 1)]));
  const allOn = Object.fromEntries(parts.map((name) => [name, blocks.map(() => 1)]));
  const engines = new Map(), answers = new Map();
  let truth = null, silent = false, gone = false;

  const active = () => rows.find((row) => row.name === model.get("model")) ?? rows[0];
  const pixels = () => array(model.get("pixels"));
  const changed = () => active().parts.some((name) => switches[name].includes(0));

  // Loading
  const notice = h("p");
  const progress = h("progress", { "aria-label": "Loading", max: 1, value: 0 });
  const button = h("button", { type: "button", onclick: () => load() });
  const loading = h("div", { class: "mo-load" }, notice, progress, button);

  // The image and the answer
  let erasing = false;
  const paper = drawingBoard(size, `Drawing of ${by(...size)} pixels. Arrow keys move the brush, with Shift they ` +
    "paint; Space paints one spot.", () => erasing, (values, done) => take(values, null, done));
  const tool = radios("Brush", [["draw", "Draw"], ["erase", "Erase"]], "draw", (value) => (erasing = value === "erase"));
  const clear = h("button", { type: "button", onclick: () => {
    paper.set(new Uint8Array(count));
    take(new Uint8Array(count), null, true);
  } }, "Clear");
  const file = h("input", { type: "file", accept: "image/*", onchange: () => file.files[0] && open(file.files[0]) });
  const opener = h("label", { class: "mo-file" }, file, h("span", {}, "Open a picture"));
  const about = h("p", { class: "mo-note" });
  const bars = probabilityBars(classes);
  const say = h("p", { class: "mo-say", role: "status" });
  const gallery = imageGallery(pictures, labels, classes, size, pickPicture);

  // What one output reads
  const stages = radios("Stage", maps.map(([, hh, w], i) => [String(i), `${i + 1}: ${by(hh, w)}`]),
    String(model.get("stage")), (value) => pickStage(Number(value)));
  const mapBoard = placeBoard("Map of the stage. Arrow keys choose an output.", (at) => store(model, "location", at));
  const fields = rows.map((row) => ({ row, canvas: h("canvas", { role: "img" }), note: h("p", { class: "mo-note" }) }));
  const reads = h("p", { class: "mo-say", "aria-live": "polite" });

  // Inside a block
  const blockSelect = select("Block", blocks.map(({ stage }, b) => h("option", { value: b },
    `Stage ${stage + 1}, block ${b + 1 - blocks.findIndex((one) => one.stage === stage)}`)),
  (value) => store(model, "block", Number(value)));
  let everywhere = false;
  const scope = radios("Switches act on", [["one", "this block"], ["all", "all blocks"]], "one", (value) => {
    everywhere = value === "all";
    update(true);
  });
  const toggles = parts.map((name) => {
    const input = h("input", { type: "checkbox", role: "switch", checked: true, onchange: () => {
      (everywhere ? blocks.map((_, b) => b) : [model.get("block")]).forEach((b) => (switches[name][b] = +input.checked));
      update(true);
    } });
    return { name, input, element: h("label", { class: "mo-switch" }, input, h("i", { "aria-hidden": "true" }),
      SWITCHES[name]) };
  });
  const reset = h("button", { type: "button", onclick: () => {
    parts.forEach((name) => switches[name].fill(1));
    update(true);
  } }, "All on");
  const branches = ["gate", "identity", "convolved"].map((key) =>
    ({ key, head: h("p", { class: "mo-note" }),
      canvas: h("canvas", { role: "img", "aria-label": "Not computed yet" }) }));
  const effect = h("p", { class: "mo-say", "aria-live": "polite" });

  const table = h("tbody");
  const chooser = radios("Model", rows.map((row) => [row.name, row.name]), model.get("model"),
    (name) => store(model, "model", name));
  const body = h("div", {},
    h("div", { class: "mo-controls" }, rows.length > 1 && chooser.element), about,
    h("div", { class: "mo-live-top" },
      h("div", {}, paper.element, h("div", { class: "mo-tools" }, tool.element, clear, opener)),
      h("div", {}, say, bars.element)),
    gallery.element,
    h("div", { class: "mo-part-head" }, h("p", { class: "mo-head" }, "What one output reads"), stages.element),
    h("div", { class: "mo-live-row" },
      h("section", {}, mapBoard.element, h("p", { class: "mo-note" }, "The stage's map: size of each output. Click one.")),
      fields.map(({ canvas, note }) => h("section", {}, h("div", { class: "mo-pixels" }, canvas), note))),
    reads,
    h("div", { class: "mo-part-head" }, h("p", { class: "mo-head" }, "Inside a block"), blockSelect.element,
      h("fieldset", { class: "mo-switches" }, h("legend", {}, "Parts"),
        h("div", {}, toggles.map(({ element }) => element), reset)), scope.element),
    effect,
    branches.map(({ head, canvas }) => h("section", { class: "mo-channels" }, head, canvas)),
    h("p", { class: "mo-note" }, "One small map a channel. Orange is positive, blue negative; square-root scale. The " +
      "gate multiplies the value, channel by channel, in the order shown."),
    h("p", { class: "mo-head mo-beside" }, "The models side by side, for this image and this output"),
    h("div", { class: "mo-scroll", tabindex: 0, role: "region", "aria-label": "The models side by side" },
      h("table", {}, h("caption", { class: "mo-hidden" }, "The models side by side"),
        h("thead", {}, h("tr", {}, ["Model", "Answer", "Half of what it reads", "Answer in", "Field in"].map((name) =>
          h("th", { scope: "col" }, name)))), table)));
  const root = h("div", { class: "mo mo-live", role: "group", "aria-label": "Live model" }, loading, body);

  /** A new image. While a stroke goes on, only the answer follows it. */
  function take(values, label, done) {
    truth = label;
    if (label === null) gallery.set(-1);
    silent = true;
    model.set("pixels", new DataView(Uint8Array.from(values).buffer));
    silent = false;
    if (done) model.save_changes();
    compute(done);
  }
  function pickPicture(n) {
    const values = pictures.subarray(n * count, (n + 1) * count);
    paper.set(values);
    take(values, labels[n], true);
  }
  /** The model's pixels on the paper, and if they are a test image's, its place in the gallery. */
  function showPixels() {
    const n = labels.findIndex((_, k) => pixels().every((value, i) => value === pictures[k * count + i]));
    truth = n < 0 ? null : labels[n];
    gallery.set(n);
    paper.set(pixels());
  }
  async function open(picture) {
    try {
      const values = await readPicture(picture, size);
      paper.set(values);
      take(values, null, true);
    } catch {
      say.textContent = `${picture.name} is no picture that this browser can read.`;
    }
    file.value = "";
  }
  function pickStage(stage) {
    const [, hh, w] = maps[stage], [, h0, w0] = maps[model.get("stage")], [row, column] = model.get("location");
    silent = true; // until both belong together
    model.set("location", [Math.floor(((row + 0.5) * hh) / h0), Math.floor(((column + 0.5) * w) / w0)]);
    silent = false;
    store(model, "stage", stage);
  }

  // One computation at a time, and always of the newest state.
  let asked = null, busy = false;
  async function compute(full) {
    asked = { full: full || (asked?.full ?? false) };
    if (busy) return;
    busy = true;
    try {
      while (asked && !gone) {
        const job = asked;
        asked = null;
        await answer(job.full);
      }
    } catch (error) {
      fail(error);
    }
    busy = false;
  }
  async function answer(full) {
    const row = active(), engine = engines.get(row.name), image = pixels(), stage = model.get("stage");
    const block = model.get("block"), at = model.get("location");
    if (!engine) return;
    const given = await engine.forward(image, switches, ["probabilities", `map${stage}`, `block${block}`]);
    const usual = changed() ? await engine.forward(image, allOn, ["probabilities"]) : null;
    say.setAttribute("aria-busy", String(!full)); // a stroke is not read aloud at every step
    showBars(given, usual);
    showMap(given[`map${stage}`], stage);
    showBlock(given[`block${block}`], row, block);
    if (!full) return;
    model.set("probabilities", [...given.probabilities]);
    for (const one of rows.filter(({ name }) => engines.has(name))) {
      const its = engines.get(one.name);
      const result = one === row ? given : await its.forward(image, switches, ["probabilities"]);
      const { field, milliseconds } = await its.field(image, switches, stage, at);
      answers.set(one.name, { ...result, field, fieldTime: milliseconds });
      if (one === row) model.set("field", new DataView(field.buffer));
    }
    model.save_changes();
    showFields(image, stage, at);
    root.dataset.answers = Number(root.dataset.answers ?? 0) + 1; // how many images, outputs or switches were answered
  }

  const best = (probabilities) => probabilities.indexOf(Math.max(...probabilities));
  const answerOf = (probabilities) => `${classes[best(probabilities)]}, ${percent(Math.max(...probabilities), 1)}`;
  function showBars({ probabilities, milliseconds }, usual) {
    bars.set(probabilities, usual?.probabilities);
    fill(say, h("b", {}, `${answerOf(probabilities)}.`), truth === null ? "" : truth === best(probabilities)
      ? " That is right." : ` It is in truth: ${classes[truth]}.`, h("small", {}, ` ${milliseconds.toFixed(0)} ms`));
    effect.textContent = usual
      ? `With these switches: ${answerOf(probabilities)}. With all parts: ${answerOf(usual.probabilities)}. ` +
        `Off, ${active().parts.filter((name) => switches[name].includes(0)).map((name) => OFF[name]).join(", and ")}.`
      : "All parts are on. Switch one off, and watch the probabilities above; a line marks where each was.";
  }
  function showMap(values, stage) {
    const [channels, hh, w] = maps[stage];
    const norms = Float32Array.from({ length: hh * w }, (_, i) => {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += values[c * hh * w + i] ** 2;
      return Math.sqrt(sum / channels);
    });
    const largest = Math.max(...norms) || 1;
    paint(mapBoard.canvas, hh, w, (i) => Array(3).fill((255 * norms[i]) / largest));
  }
  function showFields(image, stage, at) {
    for (const { row, canvas, note } of fields) {
      const result = answers.get(row.name);
      paintField(canvas, size, image, result?.field);
      canvas.setAttribute("aria-label", result ? `The pixels that this output of ${row.name} reads, over the image`
        : "The image");
      note.textContent = !result ? `${row.name}: choose it above to load it.`
        : `${row.name}: half of it in ${half(result.field).toFixed(0)} pixels; it reads ` +
          `${result.field.filter((value) => value > 0).length} of ${count}.`;
    }
    const [, hh, w] = maps[stage];
    reads.textContent = `The output in ${place(at)} of ${by(hh, w)} in stage ${stage + 1}. The brighter a pixel, ` +
      "the more this output changes with it: the size of the gradient, exact for this image.";
    fill(table, rows.map((row) => {
      const result = answers.get(row.name);
      return h("tr", {}, h("th", { scope: "row" }, row.name), ...(result
        ? [answerOf(result.probabilities), `${half(result.field).toFixed(0)} pixels`,
          `${result.milliseconds.toFixed(0)} ms`, `${result.fieldTime.toFixed(0)} ms`]
        : ["not loaded", "–", "–", "–"]).map((text) => h("td", {}, text)));
    }));
  }
  function showBlock(values, row, b) {
    const { gate, identity, height, width } = row.blocks[b];
    const starts = { gate: 0, identity: gate, convolved: gate + identity };
    const names = { gate: "Gate, after GELU", identity: "Value: passes through",
      convolved: row.parts.includes("ssm") ? "Value: convolution, SSM" : "Value: convolved" };
    for (const { key, head, canvas } of branches) {
      const channels = row.blocks[b][key];
      head.textContent = `${names[key]} (${channels})`;
      canvas.setAttribute("aria-label", `${channels} channels of ${by(height, width)}`);
      paintChannels(canvas, values, starts[key], channels, height, width, root.clientWidth < 560 ? 16 : 32);
    }
  }

  /** Controls follow the state; then everything is computed anew. */
  function update(full) {
    const row = active(), stage = model.get("stage"), b = model.get("block");
    chooser.set(row.name);
    stages.set(stage);
    about.textContent = row.text;
    mapBoard.set(maps[stage].slice(1), model.get("location"));
    blockSelect.control.value = b;
    for (const { name, input, element } of toggles) {
      element.hidden = !row.parts.includes(name);
      input.checked = everywhere ? switches[name].every(Boolean) : Boolean(switches[name][b]);
    }
    if (!engines.has(row.name) && engines.size) load();
    else compute(full);
  }

  function fail(error) {
    loading.hidden = false;
    progress.hidden = true;
    button.hidden = Boolean(obstacle());
    button.textContent = "Try again";
    fill(notice, h("b", {}, "The model could not be run here. "), obstacle() || `The reason: ${error.message}. `,
      " The rest of the book needs none of this, and the cells of this chapter run the same model in Python.");
    notice.setAttribute("role", "alert");
  }
  let underway = false;
  async function load() {
    if (underway || gone) return;
    const row = active();
    underway = true;
    loading.hidden = progress.hidden = false;
    button.hidden = true;
    notice.removeAttribute("role");
    notice.textContent = "Loading the model and what runs it …";
    try {
      if (obstacle()) throw new Error(obstacle());
      engines.set(row.name, await loadEngine(model, row, (done, total) => {
        progress.max = total;
        progress.value = done;
        notice.textContent = done < total ? `Loading: ${megabytes(done)} of ${megabytes(total)} MB` : "Starting …";
      }));
      loading.hidden = true;
      root.dataset.ready = [...engines.keys()].join(" ");
    } catch (error) {
      fail(error);
    }
    underway = false;
    update(true);
  }

  // Dropping a picture
  paper.element.addEventListener("dragover", (event) => event.preventDefault());
  paper.element.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });

  // The start: when the figure is seen, or at a click where the reader asked to save data.
  const bytes = ["runtime_wasm", active().trait].map((name) => model.get(name)?.bytes ?? 0);
  notice.textContent = "This figure runs the trained model in your browser. It is loaded when you scroll here" +
    (bytes[0] ? `, ${megabytes(bytes[0] + bytes[1])} MB.` : ".");
  button.textContent = "Load the model";
  progress.hidden = true;
  el.append(root);
  showPixels();
  showFields(pixels(), model.get("stage"), model.get("location"));
  if (obstacle()) fail();
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting) || obstacle()) return;
    watcher.disconnect();
    if (!navigator.connection?.saveData) load();
  });
  watcher.observe(root);
  update(true);
  const stops = [observe(model, ["model", "stage", "location", "block"], () => silent || update(true)),
    observe(model, ["pixels"], () => silent || (showPixels(), compute(true)))];
  return () => {
    gone = true;
    watcher.disconnect();
    stops.forEach((stop) => stop());
    root.remove();
  };
}

export default { render };
