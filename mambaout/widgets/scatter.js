// The drawing of the scatter plot: markers, scales, axes, placing of labels.

const MIXERS = {
  "Conv": { colour: "var(--conv)", spoken: "convolution" },
  "Attn": { colour: "var(--attn)", spoken: "attention" },
  "Conv+Attn": { colour: "var(--both)", spoken: "convolution and attention" },
  "Conv+SSM": { colour: "var(--ssm)", spoken: "convolution and state space model" },
  "Pool": { colour: "var(--pool)", spoken: "pooling" },
};
const COSTS = {
  macs_G: { name: "MACs", unit: "G", print: (value) => value.toFixed(1),
    title: "MACs at 224 × 224 (G, log scale)" },
  params_M: { name: "parameters", unit: "M", print: (value) => String(+value.toFixed(1)),
    title: "Parameters (M, log scale)" },
};

/** The outline of a mixer's marker around (0, 0); areas are about equal. */
function outline(mixer, r) {
  const polygon = (...points) => `M${points.map(([x, y]) => `${(x * r).toFixed(2)} ${(y * r).toFixed(2)}`).join("L")}Z`;
  switch (mixer) {
    case "Attn": return polygon([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]);
    case "Conv+Attn": return polygon([0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]);
    case "Conv+SSM": return polygon([0, -1.25], [1.2, 0.85], [-1.2, 0.85]);
    case "Pool": return polygon([-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4],
      [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]);
    default: return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  }
}
const marker = (mixer, r) => s("path", { d: outline(mixer, r), fill: MIXERS[mixer].colour });
const glyph = (mixer) =>
  s("svg", { class: "mo-glyph", viewBox: "-8 -8 16 16", "aria-hidden": "true" }, marker(mixer, 5.5));

/** Round tick values inside [low, high]: the finest series whose neighbours stay `gap` pixels apart. */
function ticks(low, high, series, position, gap) {
  const within = series.map((values) => values.filter((value) => value >= low && value <= high));
  const apart = (a, b) => Math.abs(position(a) - position(b)) >= gap;
  const roomy = (values) => values.every((value, i) => !i || apart(value, values[i - 1]));
  return within.find(roomy) ?? within.at(-1);
}
const decades = (...digits) => [0.1, 1, 10, 100].flatMap((ten) => digits.map((digit) => +(ten * digit).toPrecision(3)));
const LOG_SERIES = [
  decades(1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9), decades(1, 1.5, 2, 3, 4, 5, 6, 8),
  decades(1, 1.5, 2, 3, 4, 6), decades(1, 2, 5), decades(1, 3), decades(1),
];
const every = (step) => Array.from({ length: Math.floor(100 / step) + 1 }, (_, i) => i * step);
const LINEAR_SERIES = [every(0.5), every(1), every(2), every(5), every(10)];

const BOX = { left: 40, right: 14, top: 14, bottom: 46 };

/** Scales for the given rows in a picture of width x height pixels. */
function scales(rows, x, width, height) {
  const xs = rows.map((row) => Math.log(row[x]));
  const ys = rows.map((row) => row.top1_224);
  const spread = (values, share, least) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = Math.max(share * (high - low), least);
    return [low - pad, high + pad];
  };
  const [x0, x1] = spread(xs, 0.05, 0.05);
  const [y0, y1] = spread(ys, 0.06, 0.3);
  return {
    domain: [Math.exp(x0), Math.exp(x1), y0, y1],
    right: width - BOX.right,
    bottom: height - BOX.bottom,
    px: (value) => BOX.left + ((Math.log(value) - x0) / (x1 - x0)) * (width - BOX.left - BOX.right),
    py: (value) => height - BOX.bottom - ((value - y0) / (y1 - y0)) * (height - BOX.top - BOX.bottom),
  };
}

function axes(view, x) {
  const [x0, x1, y0, y1] = view.domain;
  const across = ticks(x0, x1, LOG_SERIES, view.px, 36);
  const up = ticks(y0, y1, LINEAR_SERIES, view.py, 34);
  return s("g", { class: "mo-axes", "aria-hidden": "true" },
    up.map((value) => [
      s("line", { x1: BOX.left, x2: view.right, y1: view.py(value), y2: view.py(value) }),
      s("text", { x: BOX.left - 8, y: view.py(value) + 4, "text-anchor": "end" }, String(value)),
    ]),
    across.map((value) => [
      s("line", { x1: view.px(value), x2: view.px(value), y1: view.bottom, y2: view.bottom + 5 }),
      s("text", { x: view.px(value), y: view.bottom + 19, "text-anchor": "middle" }, String(value)),
    ]),
    s("line", { class: "mo-base", x1: BOX.left, x2: view.right, y1: view.bottom, y2: view.bottom }),
    s("text", { class: "mo-title", x: view.right, y: view.bottom + 38, "text-anchor": "end" }, COSTS[x].title));
}

/**
 * Puts each label beside its point where it covers the fewest points, other labels and edges. `labels` are {text, at};
 * `taken` are boxes {x, y, w} already written on, with y the baseline.
 */
function place(labels, points, view, taken) {
  const placed = [];
  const directions = [[1, 0], [-1, 0], [0, -1], [0, 1], [0.7, -0.7], [0.7, 0.7], [-0.7, -0.7], [-0.7, 0.7]];
  for (const label of labels) {
    const w = 8 * label.text.length, [px, py] = label.at;
    const spots = [13, 26, 38].flatMap((reach) => directions.map(([dx, dy], order) => {
      const x = px + reach * dx - (dx < 0 ? w : dx ? 0 : w / 2);
      const y = py + reach * dy + 4.5 + 5 * dy;
      const covers = ([ox, oy]) => ox > x - 4 && ox < x + w + 4 && oy > y - 15 && oy < y + 7;
      const meets = (o) => o.x < x + w && x < o.x + o.w && Math.abs(o.y - y) < 16;
      const outside = x < BOX.left || x + w > view.right || y < BOX.top || y > view.bottom - 4;
      const score = points.filter(covers).length + 6 * [...placed, ...taken].filter(meets).length + 50 * outside;
      return { ...label, x, y, w, score: score + reach / 40 + order / 100 };
    }));
    placed.push(spots.reduce((best, spot) => (spot.score < best.score ? spot : best)));
  }
  return placed;
}
