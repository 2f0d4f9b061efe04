// The parts of the live explorer that know nothing of the model: bars, the gallery, a measure.

/** Fewest pixels that hold half of the field (`FieldMap.area(0.5)` in Python). */
function half(field) {
  const sorted = Float64Array.from(field).sort().reverse(), total = sorted.reduce((a, b) => a + b, 0);
  let held = 0;
  for (let i = 0; i < sorted.length; i++) {
    if (held + sorted[i] >= total / 2) return total ? i + (total / 2 - held) / sorted[i] : 0;
    held += sorted[i];
  }
  return 0;
}

/** A bar for the probability of each class; a line marks where it was before. */
function probabilityBars(classes) {
  const bars = classes.map((name) => {
    const bar = h("i"), was = h("b", { hidden: true }), value = h("span");
    return { bar, was, value, row: h("tr", {}, h("th", { scope: "row" }, name),
      h("td", { class: "mo-prob" }, h("div", { "aria-hidden": "true" }, bar, was), value)) };
  });
  const element = h("table", {}, h("caption", { class: "mo-hidden" }, "Class probabilities"),
    h("thead", { class: "mo-hidden" }, h("tr", {}, ["Class", "Probability"].map((name) =>
      h("th", { scope: "col" }, name)))), h("tbody", {}, bars.map(({ row }) => row)));
  return { element,
    set(probabilities, before) {
      const best = Math.max(...probabilities);
      bars.forEach(({ bar, was, value, row }, i) => {
        bar.style.width = `${100 * probabilities[i]}%`;
        value.textContent = percent(probabilities[i], 1);
        row.classList.toggle("mo-best", probabilities[i] === best);
        was.hidden = !before;
        if (before) was.style.insetInlineStart = `${100 * before[i]}%`;
      });
    } };
}

/** Test images to choose from, a column for each class: radio buttons that show a part of one picture. */
function imageGallery(pictures, labels, classes, [height, width], onpick) {
  const sheet = document.createElement("canvas"), across = labels.length * width, group = uid();
  paint(sheet, height, across, (i) => {
    const n = Math.floor((i % across) / width), row = Math.floor(i / across);
    const value = pictures[(n * height + row) * width + (i % width)];
    return [value, value, value];
  });
  const picture = sheet.toDataURL(), seen = classes.map(() => 0);
  const thumbs = labels.map((label, n) => {
    const place = labels.length > 1 ? (100 * n) / (labels.length - 1) : 0, number = ++seen[label];
    const input = h("input", { type: "radio", name: group, value: n, onchange: () => onpick(n) });
    const image = h("span", { style: `background:url(${picture}) ${place}% 0 / ${100 * labels.length}% 100%` },
      hidden(`${classes[label]} ${number}`));
    return { input, label, number, element: h("label", { title: classes[label] }, input, image) };
  });
  // Row after row: the first of each class, then the second ...
  const order = [...thumbs].sort((a, b) => a.number - b.number || a.label - b.label);
  return { element: h("fieldset", { class: "mo-gallery" }, h("legend", {}, "Test images, a column for each class"),
    h("div", { style: `--columns:${new Set(labels).size}` }, order.map(({ element }) => element))),
  set: (chosen) => thumbs.forEach(({ input }, n) => (input.checked = n === chosen)) };
}
