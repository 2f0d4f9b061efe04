// Figure 3a of the paper for many mixers: which tokens of a photo a token reads, and which read it.

const DIRECTIONS = { reads: "what it reads", read_by: "who reads it" };

/** One bit a pair, row after row, most significant bit first -> one byte a pair. */
function unpackMask(text, pairs) {
  const bytes = atob(text);
  return Uint8Array.from({ length: pairs }, (_, i) => (bytes.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1);
}

/** The set cells of a height x width table as an SVG path: one rectangle for each run along a row. */
function runs(height, width, isSet) {
  let path = "";
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (!isSet(row, column)) continue;
      const start = column;
      while (column < width && isSet(row, column)) column++;
      path += `M${start} ${row}h${column - start}v1h${start - column}z`;
    }
  }
  return path;
}

function render({ model, el }) {
  const [height, width] = model.get("grid"), tokens = height * width;
  const mixers = model.get("mixers");
  const masks = model.get("masks").map((text) => unpackMask(text, tokens * tokens));
  const total = masks.map((mask) => mask.reduce((sum, bit) => sum + bit, 0));
  const paths = new Map(); // mask -> its matrix as a path, made when first shown
  let pointed = null; // the token under the mouse

  const mixer = () => mixers.find((one) => one.name === model.get("mixer")) ?? mixers[0];
  const view = () => mixer().views[model.get("view")] ?? mixer().views[0];
  const related = (mask, token) => (model.get("direction") === "reads"
    ? (other) => masks[mask][token * tokens + other]
    : (other) => masks[mask][other * tokens + token]);
  const count = (mask, token, column) => {
    let sum = 0;
    for (let other = 0; other < tokens; other++) {
      sum += masks[mask][column ? other * tokens + token : token * tokens + other];
    }
    return sum;
  };
  const place = (token) => `row ${Math.floor(token / width) + 1}, column ${(token % width) + 1}`;

  // Controls
  const groups = [...new Set(mixers.map((one) => one.group))];
  const mixerSelect = select("Token mixer", groups.map((group) => h("optgroup", { label: group },
    mixers.filter((one) => one.group === group).map((one) => h("option", { value: one.name }, one.name)))),
  (name) => { model.set("view", 0); store(model, "mixer", name); });
  const views = h("div");
  const direction = radios("Show", Object.entries(DIRECTIONS), "", (value) => store(model, "direction", value));
  const pathInput = h("input", { type: "checkbox", role: "switch", onchange: () => store(model, "path", pathInput.checked) });
  const pathSwitch = h("label", { class: "mo-switch" }, pathInput, h("i", { "aria-hidden": "true" }), "Path");

  // The photo
  const veil = s("path", { class: "mo-veil" });
  const behind = s("polyline", { class: "mo-path" }), ahead = s("polyline", { class: "mo-path mo-ahead" });
  const start = s("circle", { class: "mo-start", r: 0.22 });
  const chosen = s("rect", { class: "mo-token", width: 1, height: 1 });
  const photo = h("div", { class: "mo-board", tabindex: 0, role: "application",
    "aria-label": `${model.get("photo_name")}, in ${height} by ${width} tokens. Arrow keys move the chosen token.` },
  s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    s("image", { href: model.get("photo"), width, height, preserveAspectRatio: "none" }),
    veil, s("path", { class: "mo-lattice", d: lattice() }), ahead, behind, start, chosen));
  function lattice() {
    const rows = Array.from({ length: height - 1 }, (_, i) => `M0 ${i + 1}h${width}`);
    return rows.join("") + Array.from({ length: width - 1 }, (_, i) => `M${i + 1} 0v${height}`).join("");
  }

  // The matrix
  const cells = s("path", { class: "mo-cells", "shape-rendering": "crispEdges" });
  const band = s("rect", { class: "mo-band-line" });
  const matrix = h("div", { class: "mo-board mo-matrix", tabindex: 0, role: "application",
    "aria-label": `Matrix of ${tokens} by ${tokens} tokens: who reads whom. Arrow keys move the chosen token.` },
  s("svg", { viewBox: `0 0 ${tokens} ${tokens}`, "aria-hidden": "true" }, cells, band));

  const about = h("p", { class: "mo-note mo-about" });
  const say = h("p", { class: "mo-say", role: "status" });
  const route = h("p", { class: "mo-note mo-about" });
  const body = h("tbody");
  const head = h("p", { class: "mo-head" });
  const root = h("div", { class: "mo mo-mixing", role: "group", "aria-label": "Who reads whom" },
    h("div", { class: "mo-controls" }, mixerSelect.element, views, direction.element,
      h("fieldset", { class: "mo-switches" }, h("legend", {}, "Route"), h("div", {}, pathSwitch))),
    about,
    h("div", { class: "mo-boards" },
      h("section", {}, head, photo),
      h("section", {}, h("p", { class: "mo-head" }, "Does token t (row) read token s (column)?"), matrix)),
    say, route,
    h("details", { class: "mo-details" }, h("summary", {}, "Data table (this token under every mixer)"),
      h("div", { class: "mo-scroll", tabindex: 0, role: "region", "aria-label": "This token under every mixer" },
        h("table", {}, h("thead", {}, h("tr", {}, ["Mixer", "Form", "Reads", "Is read by", "Of all pairs"].map((name) =>
          h("th", { scope: "col" }, name)))), body))));

  // Pointer: the mouse previews, a click or a tap chooses. Keyboard: arrows walk over the image.
  const under = (board, event, columns, rows) => {
    const box = board.firstElementChild.getBoundingClientRect();
    const column = Math.floor((columns * (event.clientX - box.left)) / box.width);
    const row = Math.floor((rows * (event.clientY - box.top)) / box.height);
    return column >= 0 && column < columns && row >= 0 && row < rows ? [row, column] : null;
  };
  const onPhoto = (event) => {
    const spot = under(photo, event, width, height);
    return spot && spot[0] * width + spot[1];
  };
  const onMatrix = (event) => under(matrix, event, tokens, tokens)?.[model.get("direction") === "reads" ? 0 : 1] ?? null;
  for (const [board, tokenAt] of [[photo, onPhoto], [matrix, onMatrix]]) {
    board.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(tokenAt(event)));
    board.addEventListener("pointerleave", () => point(null));
    board.addEventListener("click", (event) => {
      const token = tokenAt(event);
      if (token != null) store(model, "token", token);
    });
  }
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  photo.addEventListener("keydown", (event) => {
    const token = model.get("token"), step = steps[event.key];
    if (step) {
      const row = Math.floor(token / width) + step[0], column = (token % width) + step[1];
      if (row >= 0 && row < height && column >= 0 && column < width) walk(row * width + column);
    } else if (!ends(event)) return;
    event.preventDefault();
  });
  matrix.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (step) walk(Math.min(tokens - 1, Math.max(0, model.get("token") + step[0] + step[1])));
    else if (!ends(event)) return;
    event.preventDefault();
  });
  function ends(event) {
    if (event.key !== "Home" && event.key !== "End") return false;
    walk(event.key === "Home" ? 0 : tokens - 1);
    return true;
  }
  function walk(token) {
    pointed = null;
    store(model, "token", token);
  }
  function point(token) {
    if (token === pointed) return;
    pointed = token;
    draw();
  }

  /** Everything that depends on the token. */
  function draw() {
    const token = pointed ?? model.get("token"), { mask, order } = view();
    const lit = related(mask, token), [row, column] = [Math.floor(token / width), token % width];
    veil.setAttribute("d", runs(height, width, (r, c) => !lit(r * width + c)));
    chosen.setAttribute("x", column);
    chosen.setAttribute("y", row);
    const asks = model.get("direction") === "reads";
    const thick = Math.max(1, tokens / 120);
    for (const [key, value] of Object.entries(asks ? { x: 0, y: token - thick / 2 + 0.5, width: tokens, height: thick }
      : { x: token - thick / 2 + 0.5, y: 0, width: thick, height: tokens })) band.setAttribute(key, value);
    const number = order ? order.indexOf(token) : -1, drawn = order && model.get("path");
    const points = (list) => list.map((one) => `${(one % width) + 0.5},${Math.floor(one / width) + 0.5}`).join(" ");
    behind.setAttribute("points", drawn ? points(order.slice(0, number + 1)) : "");
    ahead.setAttribute("points", drawn ? points(order.slice(number)) : "");
    start.setAttribute("visibility", drawn ? "visible" : "hidden");
    if (drawn) {
      start.setAttribute("cx", (order[0] % width) + 0.5);
      start.setAttribute("cy", Math.floor(order[0] / width) + 0.5);
    }
    const [out, into] = [count(mask, token, false), count(mask, token, true)];
    fill(say, `The token in ${place(token)} reads `, h("b", {}, `${out} of ${tokens}`), ` tokens and is read by `,
      h("b", {}, String(into)), `. Of all pairs, ${percent(total[mask], tokens * tokens)} are read.`);
    route.textContent = order ? `It is number ${number + 1} of ${tokens} on this route. ` +
      (model.get("path") ? "The line starts at the dot; it is full up to the token and dotted after it." : "")
      : mixer().views.some((one) => one.order) ? "Several routes or layers together: choose a single one to see its path."
        : "This mixer has no order: it reads all that it can reach at once.";
    for (const line of body.rows) {
      const one = Number(line.dataset.mask);
      line.cells[2].textContent = count(one, token, false);
      line.cells[3].textContent = count(one, token, true);
    }
  }

  /** Everything that depends on the mixer. */
  function update() {
    const now = mixer(), { mask } = view();
    mixerSelect.control.value = now.name;
    direction.set(model.get("direction"));
    pathInput.checked = model.get("path");
    head.textContent = model.get("direction") === "reads" ? "The photo, as far as this token reads it"
      : "The photo, where its tokens read this one";
    about.textContent = now.text;
    if (!paths.has(mask)) paths.set(mask, runs(tokens, tokens, (t, s) => masks[mask][t * tokens + s]));
    cells.setAttribute("d", paths.get(mask));
    for (const line of body.rows) line.classList.toggle("mo-near", line.dataset.view === `${now.name}/${view().label}`);
    draw();
  }
  let choice = null; // the radio buttons belong to one mixer
  function rebuild() {
    const now = mixer();
    if (choice?.owner !== now) {
      const options = now.views.map((one, i) => [String(i), one.label]);
      choice = { owner: now, ...radios("Form", options, "", (value) => store(model, "view", Number(value))) };
      fill(views, choice.element);
    }
    choice.set(model.get("view"));
    update();
  }
  fill(body, mixers.flatMap((one) => one.views.map((form) =>
    h("tr", { "data-mask": form.mask, "data-view": `${one.name}/${form.label}` },
      h("th", { scope: "row" }, one.name), h("td", {}, form.label), h("td"), h("td"),
      h("td", {}, percent(total[form.mask], tokens * tokens))))));

  el.append(root);
  rebuild();
  const stops = [observe(model, ["mixer", "view"], rebuild), observe(model, ["direction", "path"], update),
    observe(model, ["token"], draw)];
  return () => {
    stops.forEach((stop) => stop());
    root.remove();
  };
}

export default { render };
