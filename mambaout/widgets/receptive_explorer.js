// Effective receptive fields of two models side by side: heat map, contours, radial profile and numbers.

const SOURCES = { photo: "this photo", average: "average over images" };
const SHARES = [50, 90];
const BLUR = 1.2; // cells: the standard deviation of the smoothing before contours are drawn
const COLUMNS = { area_50: 0, area_90: 1, area_99: 2, anisotropy: 3, asymmetry: 4, down: 5, right: 6 };
// Inferno at nine places: its brightness rises evenly, so it is safe for colour-blind readers and in print.
const INFERNO = [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10],
  [249, 201, 50], [252, 255, 164]];

/** Gzipped bytes in base64 -> Uint8Array. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Bytes of one map -> numbers whose largest is 1. */
const decode = (bytes) => Float64Array.from(bytes, (one) => (one / 255) ** 2);

function colour(value) {
  const place = value * (INFERNO.length - 1), i = Math.min(INFERNO.length - 2, Math.floor(place));
  return INFERNO[i].map((from, k) => Math.round(from + (place - i) * (INFERNO[i + 1][k] - from)));
}

/** Matrix (n, n) that spreads each cell as a Gaussian over the cells that there are. */
function spread(n, sd) {
  const weight = (i, j) => Math.exp(-((i - j) ** 2) / (2 * sd * sd));
  const sums = Array.from({ length: n }, (_, j) => Array.from({ length: n }, (_, i) => weight(i, j)).reduce((a, b) => a + b));
  return Array.from({ length: n }, (_, i) => sums.map((sum, j) => weight(i, j) / sum));
}

/** A map (height, width) blurred along both axes; no mass leaves it. */
function smooth(map, height, width, down, across) {
  const half = new Float64Array(map.length), out = new Float64Array(map.length);
  for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
    let sum = 0;
    for (let k = 0; k < height; k++) sum += down[r][k] * map[k * width + c];
    half[r * width + c] = sum;
  }
  for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += across[c][k] * half[r * width + k];
    out[r * width + c] = sum;
  }
  return out;
}

/** The number above which the fewest cells lie that hold this share of the mass: midway to the next smaller cell. */
function levelOf(map, share) {
  const sorted = Float64Array.from(map).sort().reverse();
  const wanted = share * sorted.reduce((sum, one) => sum + one, 0);
  let held = 0;
  const last = sorted.findIndex((value) => (held += value) >= wanted * (1 - 1e-12));
  return (sorted[last] + (sorted[last + 1] ?? 0)) / 2;
}

/** Marching squares: the line around the cells of at least `level`, closed at the image's border; in cells. */
function contour(map, height, width, level) {
  const outside = (r, c) => r < 0 || c < 0 || r >= height || c >= width;
  const at = (r, c) => (outside(r, c) ? 0 : map[r * width + c]) - level;
  const pieces = [];
  for (let r = -1; r < height; r++) for (let c = -1; c < width; c++) {
    const corners = [[r, c], [r, c + 1], [r + 1, c + 1], [r + 1, c]];
    const crossings = [];
    corners.forEach(([y, x], k) => {
      const [y2, x2] = corners[(k + 1) % 4], a = at(y, x), b = at(y2, x2);
      if (a >= 0 === b >= 0) return;
      const part = outside(y, x) || outside(y2, x2) ? 0.5 : a / (a - b);
      const clamp = (value, most) => Math.min(most, Math.max(0, value + 0.5)).toFixed(2);
      crossings.push(`${clamp(x + part * (x2 - x), width)} ${clamp(y + part * (y2 - y), height)}`);
    });
    for (let k = 0; k < crossings.length; k += 2) pieces.push(`M${crossings[k]}L${crossings[k + 1]}`);
  }
  return pieces.join("");
}

/** Mean mass of a cell in rings of one cell around a place: [distance in pixels, share of the largest ring]. */
function profile(map, height, width, [row, column], pool) {
  const sums = [], counts = [];
  for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
    const middle = (pool - 1) / 2;
    const ring = Math.floor(Math.hypot(r * pool + middle - row, c * pool + middle - column) / pool);
    sums[ring] = (sums[ring] ?? 0) + map[r * width + c];
    counts[ring] = (counts[ring] ?? 0) + 1;
  }
  const rings = [];
  sums.forEach((sum, ring) => rings.push([(ring + 0.5) * pool, sum / counts[ring]]));
  const largest = Math.max(...rings.map(([, value]) => value));
  return rings.map(([distance, value]) => [distance, value / largest]);
}

function render({ model, el }) {
  const sets = model.get("sets"), pool = model.get("pool"), [rows, columns] = model.get("grid");
  const [tall, wide] = model.get("size"), height = tall / pool, width = wide / pool, cells = height * width;
  const down = spread(height, BLUR), across = spread(width, BLUR);
  let bytes = null, gone = false;

  const setOf = (choice) => {
    const own = sets.filter((one) => one.source === model.get("source") && one.model === choice.model);
    return own.find((one) => one.state === choice.state && one.stage === choice.stage)
      ?? own.find((one) => one.state === choice.state) ?? own[0];
  };
  const mapOf = (set) => {
    const start = (sets.indexOf(set) * rows * columns + model.get("location")) * cells;
    return decode(bytes.subarray(start, start + cells));
  };
  const measure = (set, name) => set.measures[model.get("location")][COLUMNS[name]];
  const radius = (area) => Math.sqrt(area / Math.PI).toFixed(1);
  const place = () => `row ${Math.floor(model.get("location") / columns) + 1} of ${rows}, ` +
    `column ${(model.get("location") % columns) + 1} of ${columns}`;
  const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
  const titleOf = (set) => `${set.model}, ${set.state}, ${set.stage}`;

  /** One of the two panels. */
  function panel(trait, letter) {
    const names = [...new Set(sets.map((one) => one.model))];
    const groups = [...new Set(sets.map((one) => one.group))];
    const choose = (change) => store(model, trait, { ...model.get(trait), ...change });
    const modelSelect = select(`Model ${letter}`, groups.map((group) => h("optgroup", { label: group },
      names.filter((name) => sets.find((one) => one.model === name).group === group).map((name) =>
        h("option", { value: name }, name)))), (name) => {
      const { state, stage } = setOf({ ...model.get(trait), model: name });
      store(model, trait, { model: name, state, stage });
    });
    const forms = h("div", { class: "mo-forms" });
    const canvas = h("canvas", { width, height, "aria-hidden": "true" });
    const image = s("image", { width, height, preserveAspectRatio: "none" }); // themes restyle every img
    const lines = SHARES.map((share) => [s("path", { class: "mo-halo" }), s("path", { class: `mo-contour mo-share-${share}` })]);
    const dots = s("g", { class: "mo-dots" }), mark = s("path", { class: "mo-mark" });
    const board = h("div", { class: "mo-board", tabindex: 0, role: "application" },
      s("svg", { class: "mo-picture", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, image), canvas,
      s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, dots, lines, mark));
    board.addEventListener("click", (event) => {
      const box = board.getBoundingClientRect();
      const y = (tall * (event.clientY - box.top)) / box.height - 0.5;
      const x = (wide * (event.clientX - box.left)) / box.width - 0.5;
      const far = setOf(model.get(trait)).centres.map(([row, column]) => Math.hypot(row - y, column - x));
      store(model, "location", far.indexOf(Math.min(...far)));
    });
    board.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const location = model.get("location");
      if (step) {
        const row = Math.floor(location / columns) + step[0], column = (location % columns) + step[1];
        if (row >= 0 && row < rows && column >= 0 && column < columns) store(model, "location", row * columns + column);
      } else if (event.key === "Home" || event.key === "End") {
        store(model, "location", event.key === "Home" ? 0 : rows * columns - 1);
      } else return;
      event.preventDefault();
    });

    let owner = "", stateRadios, stageRadios;
    function controls(set) {
      modelSelect.control.value = set.model;
      if (owner !== set.model) {
        owner = set.model;
        const own = sets.filter((one) => one.model === owner);
        const options = (key) => [...new Set(own.map((one) => one[key]))].map((value) => [value, value]);
        stateRadios = radios(`Weights ${letter}`, options("state"), "", (state) => choose({ state }));
        stageRadios = radios(`Stage ${letter}`, options("stage"), "", (stage) => choose({ stage }));
        fill(forms, stateRadios.element, stageRadios.element);
      }
      stateRadios.set(set.state);
      stageRadios.set(set.stage);
    }
    function draw() {
      const set = setOf(model.get(trait)), picture = model.get("pictures")[model.get("source")];
      controls(set);
      if (image.getAttribute("href") !== picture.address) image.setAttribute("href", picture.address);
      board.setAttribute("aria-label", `${letter}: receptive field of ${titleOf(set)}, over ${picture.name}. ` +
        "Arrow keys move the output.");
      const place = ([row, column]) => [(column + 0.5) / pool, (row + 0.5) / pool];
      fill(dots, set.centres.map((centre) => {
        const [cx, cy] = place(centre);
        return s("circle", { cx, cy, r: 0.28 });
      }));
      const [x, y] = place(set.centres[model.get("location")]);
      mark.setAttribute("d", `M${x - 1.2} ${y}h2.4M${x} ${y - 1.2}v2.4`);
      const map = mapOf(set), smoothed = smooth(map, height, width, down, across);
      const pixels = new ImageData(width, height);
      map.forEach((value, i) => {
        const root = Math.sqrt(value);
        pixels.data.set([...colour(root), Math.round(255 * Math.min(1, 0.15 + 1.1 * root) * (root > 0))], 4 * i);
      });
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      SHARES.forEach((share, k) => {
        const path = contour(smoothed, height, width, levelOf(smoothed, share / 100));
        lines[k].forEach((line) => line.setAttribute("d", path));
      });
      return { set, rings: profile(map, height, width, set.centres[model.get("location")], pool) };
    }
    const element = h("section", { role: "group", "aria-label": `Model ${letter}` }, modelSelect.element, forms, board);
    return { element, draw };
  }

  const panels = [panel("left", "A"), panel("right", "B")];
  const source = radios("Receptive field on", Object.entries(SOURCES), "", (value) => store(model, "source", value));
  const say = h("p", { class: "mo-say", role: "status" }, "The maps are being unpacked.");

  // The radial profile: both models in one picture, the share of the largest ring on a logarithmic scale.
  const W = 340, H = 190, LEFT = 58, BOTTOM = 34, DECADES = 4, reach = Math.hypot(tall, wide) * 0.75;
  const x = (distance) => LEFT + ((W - LEFT - 8) * distance) / reach;
  const y = (value) => 8 + ((H - BOTTOM - 8) * -Math.log10(Math.max(value, 10 ** -DECADES))) / DECADES;
  const curves = ["a", "b"].map((letter) => s("path", { class: `mo-curve mo-curve-${letter}` }));
  const step = Math.max(1, Math.round(reach / 5 / 4) * 4);
  const chart = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" },
    s("g", { class: "mo-axes", "aria-hidden": "true" },
      Array.from({ length: DECADES + 1 }, (_, k) => [s("line", { x1: LEFT, x2: W - 8, y1: y(10 ** -k), y2: y(10 ** -k) }),
        s("text", { x: LEFT - 6, y: y(10 ** -k) + 4, "text-anchor": "end" }, k ? `1/${10 ** k}` : "1")]),
      Array.from({ length: Math.floor(reach / step) + 1 }, (_, k) =>
        s("text", { x: x(k * step), y: H - BOTTOM + 16, "text-anchor": "middle" }, k * step)),
      s("text", { x: (LEFT + W) / 2, y: H - 3, "text-anchor": "middle" }, "pixels from the output")), curves);
  const numbers = h("tbody");
  const everything = h("tbody");
  const root = h("div", { class: "mo mo-receptive", role: "group", "aria-label": "What an output sees" },
    h("div", { class: "mo-controls" }, source.element),
    h("div", { class: "mo-boards" }, panels.map((one) => one.element)),
    h("p", { class: "mo-note mo-legend" }, "Cross: the output. Dots: the others to choose. Bright: large gradient ",
      "(square-root scale, each map to its own maximum). Thick line: around 50\u00a0% of the mass; thin line: ",
      "90\u00a0%; both of the map smoothed."),
    say,
    h("div", { class: "mo-columns" },
      h("section", {}, h("p", { class: "mo-head" }, "Mean of the map at a distance from the output"), chart,
        h("p", { class: "mo-note" }, h("span", { class: "mo-key mo-key-a" }), " A  ", h("span", { class: "mo-key mo-key-b" }),
          " B, each as a share of its largest ring")),
      h("section", {}, h("table", {}, h("caption", {}, "Measured on the full map"),
        h("thead", {}, h("tr", {}, ["", "A", "B"].map((name) => h("th", { scope: "col" }, name || hidden("Measure"))))),
        numbers))),
    h("details", { class: "mo-details" }, h("summary", {}, "Data table (this place in every model)"),
      h("div", { class: "mo-scroll", tabindex: 0, role: "region", "aria-label": "This place in every model" },
        h("table", {}, h("thead", {}, h("tr", {}, ["Model", "Weights", "Stage", "Radius 50 %", "Radius 90 %", "Anisotropy",
          "Asymmetry"].map((name) => h("th", { scope: "col" }, name)))), everything))));

  const LINES = [
    ["Radius of 50 %, pixels", (set) => radius(measure(set, "area_50"))],
    ["Radius of 90 %, pixels", (set) => radius(measure(set, "area_90"))],
    ["Radius of 99 %, pixels", (set) => radius(measure(set, "area_99"))],
    ["Area of 90 %, pixels", (set) => integer(Math.round(measure(set, "area_90")))],
    ["Anisotropy", (set) => measure(set, "anisotropy").toFixed(2)],
    ["Causal asymmetry", (set) => signed(measure(set, "asymmetry"), 2)],
    ["Centre of mass, down", (set) => signed(measure(set, "down"), 1)],
    ["Centre of mass, right", (set) => signed(measure(set, "right"), 1)],
  ];
  const falls = (rings, to) => {
    const found = rings.find(([distance, value], i) => value < to && i > 0);
    return found ? `after ${found[0].toFixed(0)} pixels` : "nowhere";
  };

  function draw() {
    if (!bytes) return;
    source.set(model.get("source"));
    const drawn = panels.map((one) => one.draw());
    drawn.forEach(({ rings }, k) => {
      const points = rings.filter(([distance, value]) => distance <= reach && value >= 10 ** -DECADES);
      curves[k].setAttribute("d", points.map(([d, v], i) => `${i ? "L" : "M"}${x(d).toFixed(1)} ${y(v).toFixed(1)}`).join(""));
    });
    chart.setAttribute("aria-label", "Radial profiles. " + drawn.map(({ rings }, k) =>
      `${"AB"[k]} falls below a tenth ${falls(rings, 0.1)}, below a hundredth ${falls(rings, 0.01)}.`).join(" "));
    fill(numbers, LINES.map(([name, value]) =>
      h("tr", {}, h("th", { scope: "row" }, name), drawn.map(({ set }) => h("td", {}, value(set))))));
    fill(say, `The output at ${place()}, on ${SOURCES[model.get("source")]}. `, drawn.map(({ set }, k) => [
      h("b", {}, `${"AB"[k]}: `), `${titleOf(set)}: half of the mass within a radius of ${radius(measure(set, "area_50"))}, ` +
      `90 % within ${radius(measure(set, "area_90"))} pixels. `]));
    fill(everything, sets.filter((one) => one.source === model.get("source")).map((set) =>
      h("tr", { class: drawn.some((one) => one.set === set) && "mo-near" }, h("th", { scope: "row" }, set.model),
        h("td", {}, set.state), h("td", {}, set.stage), [0, 1, 4, 5].map((k) => h("td", {}, LINES[k][1](set))))));
  }

  el.append(root);
  unpack(model.get("maps")).then((found) => {
    if (gone) return;
    bytes = found;
    draw();
    root.dataset.ready = "";
  }).catch((error) => fill(say, `The maps cannot be unpacked in this browser: ${error.message}`));
  const stop = observe(model, ["left", "right", "source", "location"], draw);
  return () => {
    gone = true;
    stop();
    root.remove();
  };
}

export default { render };
