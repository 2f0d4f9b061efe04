// Accuracy against cost: scatter plot, filters, and who beats whom at no more cost.

const cost = (row, x) => (row[x] == null ? "no published MACs" : `${COSTS[x].print(row[x])} ${COSTS[x].unit}`);
const accuracy = (row) => `${row.top1_224.toFixed(1)} %`;

/** Splits `others` into those that beat `row`, tie with it, or are beaten by it: no more cost, at least as accurate. */
function compare(row, others, x) {
  const asGood = (a, b) => a[x] <= b[x] && a.top1_224 >= b.top1_224;
  const better = others.filter((other) => asGood(other, row));
  const worse = others.filter((other) => asGood(row, other));
  return {
    ties: better.filter((other) => worse.includes(other)),
    better: better.filter((other) => !worse.includes(other)),
    worse: worse.filter((other) => !better.includes(other)),
  };
}

function render({ model, el }) {
  const rows = model.get("rows");
  const byName = new Map(rows.map((row) => [row.model, row]));
  const highlight = model.get("highlight").map((name) => byName.get(name));
  const present = Object.keys(MIXERS).filter((mixer) => rows.some((row) => row.token_mixing === mixer));
  const sizes = [...new Set(rows.map((row) => row.size_group))];
  const mixers = new Set(present);
  let size = "", view, drawn = [], current = null, redraw;

  // Controls
  const axis = radios("Cost", [["macs_G", "MACs"], ["params_M", "Parameters"]], model.get("x"),
    (x) => store(model, "x", x));
  const sizeSelect = select("Model size", [h("option", { value: "" }, "All sizes"),
    sizes.map((name) => h("option", { value: name }, name[0].toUpperCase() + name.slice(1)))],
  (value) => { size = value; update(); });
  const modelSelect = select("Compare", [h("option", { value: "" }, "No model"),
    sizes.map((name) => h("optgroup", { label: name[0].toUpperCase() + name.slice(1) },
      rows.filter((row) => row.size_group === name).map((row) => h("option", { value: row.model }, row.model))))],
  (value) => store(model, "selected", value || null));
  const chips = h("fieldset", { class: "mo-chips" }, h("legend", {}, "Token mixing"), h("div", {},
    present.map((mixer) => {
      const input = h("input", { type: "checkbox", checked: true, value: mixer, onchange: () => {
        if (input.checked) mixers.add(mixer); else mixers.delete(mixer);
        update();
      } });
      return h("label", {}, input, h("span", {}, glyph(mixer), mixer));
    })));

  // Outputs
  const label = uid();
  const picture = s("svg", { role: "group", "aria-labelledby": label });
  const tip = h("div", { class: "mo-tip", "aria-hidden": "true", hidden: true });
  const plot = h("div", { class: "mo-plot" }, picture, tip);
  const missing = h("p", { class: "mo-note" });
  const sentence = h("p", { class: "mo-say", role: "status" });
  const lists = h("div", { class: "mo-lists" });
  const summary = h("summary", {}, "");
  const body = h("tbody");
  const table = h("details", { class: "mo-details" }, summary,
    h("div", { class: "mo-scroll", role: "region", tabindex: 0, "aria-label": "Data of the figure" },
      h("table", {}, h("thead", {}, h("tr", {}, ["Model", "Size", "Token mixing", "Parameters (M)", "MACs (G)",
        "Top-1 (%)", "Note"].map((name) => h("th", { scope: "col" }, name)))), body)));
  const root = h("div", { class: "mo mo-results", role: "group", "aria-label": "Results explorer" },
    h("div", { class: "mo-controls" }, axis.element, sizeSelect.element, modelSelect.element, chips),
    h("p", { class: "mo-axis-title", id: label }, "ImageNet top-1 accuracy (%)", hidden(" against cost")),
    plot, missing, sentence, lists, table);

  const passes = (row) => mixers.has(row.token_mixing) && (!size || row.size_group === size);
  const describe = (row) => [`${row.model}: ${MIXERS[row.token_mixing].spoken}, ${cost(row, "params_M")} parameters, ` +
    `${row.macs_G == null ? cost(row, "macs_G") : cost(row, "macs_G") + " MACs"}, ${accuracy(row)} top-1`, row.note]
    .filter(Boolean).join(". ");

  function showTip(row) {
    const point = drawn.find((candidate) => candidate.row === row) ?? null;
    if (point === current) return;
    current?.element.classList.remove("mo-near");
    current = point;
    tip.hidden = !point;
    if (!point) return;
    point.element.classList.add("mo-near");
    const { x: px, y: py } = point;
    const line = (name, value) => h("div", {}, h("span", {}, name), h("b", {}, value));
    const same = drawn.filter((other) => other !== point && other.x === px && other.y === py);
    fill(tip, h("strong", {}, glyph(row.token_mixing), row.model),
      line("Token mixing", row.token_mixing), line("Parameters", cost(row, "params_M")),
      line("MACs", cost(row, "macs_G")), line("Top-1 accuracy", accuracy(row)),
      row.note && h("p", {}, row.note),
      same.length > 0 && h("p", {}, `At the same place: ${same.map((other) => other.row.model).join(", ")}`));
    const { width, height } = plot.getBoundingClientRect();
    const [w, tall] = [tip.offsetWidth, tip.offsetHeight];
    const beside = px + 16 + w <= width ? px + 16 : px - 16 - w;
    const above = py - 16 - tall;
    const [left, top] = beside >= 0 ? [beside, py - tall / 2] : [px - w / 2, above >= 0 ? above : py + 16];
    tip.style.left = `${Math.max(0, Math.min(left, width - w))}px`;
    tip.style.top = `${Math.max(0, Math.min(top, height - tall))}px`;
  }
  const choose = (row) => store(model, "selected", model.get("selected") === row.model ? null : row.model);

  // Pointer: the nearest point within a finger's reach. Keyboard: one tab stop, arrows walk along either axis.
  function nearest(event, reach) {
    const { left, top } = picture.getBoundingClientRect();
    const distance = (point) => Math.hypot(point.x - (event.clientX - left), point.y - (event.clientY - top));
    const best = drawn.reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
    return best && distance(best) <= reach ? best.row : null;
  }
  picture.addEventListener("pointermove", (event) => event.pointerType === "mouse" && showTip(nearest(event, 20)));
  picture.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && showTip(null));
  picture.addEventListener("click", (event) => {
    const row = nearest(event, 24);
    if (row) choose(row);
    showTip(row);
  });
  // On the <div>: an <svg> that listens for focus becomes a tab stop itself.
  plot.addEventListener("focusin", (event) => showTip(byName.get(event.target.dataset.model)));
  plot.addEventListener("focusout", () => showTip(null));
  picture.addEventListener("keydown", (event) => {
    const row = byName.get(event.target.dataset?.model);
    if (!row) return;
    const x = model.get("x");
    const along = drawn.map((point) => point.row).sort((a, b) => a[x] - b[x] || a.top1_224 - b.top1_224);
    const upward = [...along].sort((a, b) => a.top1_224 - b.top1_224);
    const walks = { ArrowRight: [along, 1], ArrowLeft: [along, -1], ArrowUp: [upward, 1], ArrowDown: [upward, -1] };
    const go = walks[event.key];
    if (go) focusPoint(go[0][go[0].indexOf(row) + go[1]]);
    else if (event.key === "Home") focusPoint(along[0]);
    else if (event.key === "End") focusPoint(along.at(-1));
    else if (event.key === "Enter" || event.key === " ") choose(row);
    else if (event.key === "Escape") showTip(null);
    else return;
    event.preventDefault();
  });
  function focusPoint(row) {
    const point = drawn.find((candidate) => candidate.row === row);
    if (!point) return;
    drawn.forEach((other) => other.element.setAttribute("tabindex", other === point ? 0 : -1));
    point.element.focus();
  }

  function draw(shown, chosen, verdict) {
    const { width, height } = plot.getBoundingClientRect();
    if (!width) return;
    const x = model.get("x");
    const focused = picture.contains(document.activeElement) ? document.activeElement.dataset.model : null;
    current = null;
    tip.hidden = true;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren();
    drawn = [];
    if (!shown.length) {
      picture.append(s("text", { class: "mo-empty", x: width / 2, y: height / 2, "text-anchor": "middle" },
        "No model passes the filters."));
      return;
    }
    view = scales(shown, x, width, height);
    const at = (row) => [view.px(row[x]), view.py(row.top1_224)];
    picture.append(axes(view, x));
    const taken = [];
    if (verdict) {
      const [px, py] = at(chosen);
      const words = px - BOX.left < 150 || py < BOX.top + 40 ? [] : ["at least as accurate,", `no more ${COSTS[x].name}`];
      picture.append(s("g", { class: "mo-region", "aria-hidden": "true" },
        s("rect", { x: BOX.left, y: BOX.top - 8, width: px - BOX.left, height: py - BOX.top + 8 }),
        s("path", { d: `M${BOX.left} ${py}H${px}V${BOX.top - 8}` }),
        words.map((line, i) => s("text", { x: BOX.left + 8, y: BOX.top + 9 + 15 * i }, line))));
      taken.push(...words.map((_, i) => ({ x: BOX.left, y: BOX.top + 9 + 15 * i, w: 150 })));
    }
    const line = highlight.filter((row) => shown.includes(row));
    if (line.length > 1) {
      picture.append(s("polyline", { class: "mo-line", points: line.map((row) => at(row).join(",")).join(" ") }));
    }
    const related = verdict && new Set([chosen, ...verdict.better, ...verdict.ties, ...verdict.worse]);
    const order = [...shown].sort((a, b) => line.includes(a) - line.includes(b) || (a === chosen) - (b === chosen));
    const first = shown.includes(chosen) ? chosen : order.at(-1);
    for (const row of order) {
      const [px, py] = at(row);
      const big = line.includes(row) || row === chosen;
      const classes = ["mo-point", big && "mo-big", row === chosen && "mo-chosen"];
      if (related && !related.has(row)) classes.push("mo-dim");
      const element = s("g", {
        class: classes.filter(Boolean).join(" "), transform: `translate(${px.toFixed(1)} ${py.toFixed(1)})`,
        role: "button", tabindex: row === first ? 0 : -1, "aria-pressed": String(row === chosen),
        "aria-label": describe(row), "data-model": row.model,
      }, s("circle", { class: "mo-ring", r: 12 }), marker(row.token_mixing, big ? 6.5 : 5));
      drawn.push({ row, x: px, y: py, element });
      picture.append(element);
    }
    // The first label carries the whole name; the others only what differs ("MambaOut-Femto", "Tiny", ...).
    const whole = (row) => row === chosen || row === line[0];
    const named = [...new Set([...(shown.includes(chosen) ? [chosen] : []), ...line])];
    const labels = named.map((row) => ({ at: at(row),
      text: whole(row) ? row.model : row.model.slice(row.model.lastIndexOf("-") + 1) }));
    const points = drawn.map((point) => [point.x, point.y]);
    picture.append(s("g", { class: "mo-labels", "aria-hidden": "true" },
      place(labels, points, view, taken).map((spot) => s("text", { x: spot.x, y: spot.y }, spot.text))));
    if (focused) focusPoint(byName.get(focused));
  }

  function listing(title, kind, found, chosen) {
    const x = model.get("x");
    const items = [...found].sort((a, b) => b.top1_224 - a.top1_224 || a[x] - b[x]).map((row) =>
      h("li", { "data-model": row.model }, glyph(row.token_mixing), h("span", {}, row.model, " ",
        h("small", {}, `${row.top1_224.toFixed(1)} · ${cost(row, x)}`,
          row.top1_224 === chosen.top1_224 && kind !== "ties" && " · same accuracy",
          row[x] === chosen[x] && kind !== "ties" && ` · same ${COSTS[x].name}`))));
    const id = uid();
    return h("section", { "data-list": kind, "aria-labelledby": id },
      h("p", { class: "mo-head", id }, title, " ", h("b", {}, String(found.length))),
      found.length ? h("ul", {}, items) : h("p", { class: "mo-note" }, "None."));
  }

  function update() {
    const x = model.get("x");
    const { name } = COSTS[x];
    const chosen = byName.get(model.get("selected")) ?? null;
    const wanted = rows.filter(passes);
    const without = wanted.filter((row) => row[x] == null);
    const counted = wanted.filter((row) => row[x] != null);
    // The chosen model stays in view as the reference, whatever the filters say.
    const shown = rows.filter((row) => row[x] != null && (passes(row) || row === chosen));
    const verdict = chosen && chosen[x] != null ? compare(chosen, counted.filter((row) => row !== chosen), x) : null;
    axis.set(x);
    modelSelect.control.value = chosen?.model ?? "";
    missing.textContent = without.length
      ? `Not shown, no ${name} published: ${without.map((row) => row.model).join(", ")}.` : "\u00a0";
    const count = (n) => (n === 1 ? "1 model" : `${n} models`);
    if (verdict) {
      const others = counted.filter((row) => row !== chosen).length;
      fill(sentence, h("b", {}, chosen.model), ` (${accuracy(chosen)}, ${cost(chosen, x)} ${name}), set against ` +
        `${count(others)} shown: `, h("b", {}, count(verdict.better.length)),
      ` ${verdict.better.length === 1 ? "beats" : "beat"} it with no more ${name} and at least its accuracy; it beats `,
      h("b", {}, count(verdict.worse.length)), " in the same sense",
      verdict.ties.length ? `; it ties with ${verdict.ties.map((row) => row.model).join(", ")}.` : ".");
    } else {
      sentence.textContent = chosen
        ? `${chosen.model} has no published ${name}: it cannot be compared on this axis.`
        : `${count(shown.length)} shown. Choose one, in the figure or under Compare, to see which models beat it ` +
          "at no more cost.";
    }
    fill(lists, verdict && [
      listing(`Beat ${chosen.model}`, "better", verdict.better, chosen),
      verdict.ties.length > 0 && listing(`Tie with ${chosen.model}`, "ties", verdict.ties, chosen),
      listing(`Beaten by ${chosen.model}`, "worse", verdict.worse, chosen)]);
    summary.textContent = `Data table (${wanted.length} of ${rows.length} rows of Table 1)`;
    fill(body, wanted.map((row) => h("tr", {}, h("th", { scope: "row" }, row.model),
      [row.size_group, row.token_mixing, COSTS.params_M.print(row.params_M),
        row.macs_G == null ? "–" : COSTS.macs_G.print(row.macs_G), row.top1_224.toFixed(1), row.note]
        .map((cell) => h("td", {}, cell)))));
    redraw = () => draw(shown, chosen, verdict);
    redraw();
  }

  el.append(root);
  update();
  const resize = new ResizeObserver(() => redraw());
  resize.observe(plot);
  const stop = observe(model, ["x", "selected"], update);
  return () => {
    stop();
    resize.disconnect();
    root.remove();
  };
}

export default { render };
