// Figure 2 of the paper, run: tokens arrive, attention keeps a key and a value of each, an SSM rewrites one state.

const WINDOW = 7, BYTES = 4, LONG = 4096; // width of the convolution, bytes of a float32, a long sequence

/** Numbers held after token t and MACs of token t, as in mambaout/analysis/memory.py; a test compares them. */
const STEPS = {
  attention: ({ width: D }, t) => ({ numbers: 2 * t * D, macs: 4 * D * D + 2 * t * D }),
  ssm: ({ width: D, d_state: N }) =>
    ({ numbers: D * N, macs: D * (2 * Math.ceil(D / 16) + 2 * N) + D * (4 * N + 2) }),
  conv: ({ width: D }, t) => ({ numbers: Math.min(t, WINDOW - 1) * D, macs: WINDOW * D }),
};
const MIXERS = {
  attention: { name: "Causal attention", colour: "var(--attn)" },
  ssm: { name: "Selective SSM", colour: "var(--ssm)" },
  conv: { name: `Causal convolution, ${WINDOW} wide`, colour: "var(--conv)" },
};

/** Shares from 0 to 1, stored as 255 times their square roots. */
const unpack = (text) => Float32Array.from(atob(text), (one) => (one.charCodeAt(0) / 255) ** 2);
const whole = (share) => `${Math.round(100 * share)}\u00a0%`;

function render({ model, el }) {
  const records = model.get("records"), text = model.get("text"), unpacked = new Map();
  const values = (key) => [...new Set(records.map((one) => one[key]))].sort((a, b) => a - b);
  const get = () => Object.fromEntries(
    ["source", "trained", "d_state", "length", "width", "heads", "measure", "token"].map((key) => [key, model.get(key)]));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let timer = null, pointed = null, built = "";

  /** The record shown: kept(t, s), weight(t, s), state(t, n). */
  function record({ source, trained, d_state, length }) {
    const index = records.findIndex((one) => one.source === source && one.trained === trained &&
      one.d_state === d_state && one.length === length);
    if (!unpacked.has(index)) {
      const [kept, weight, state] = ["kept", "weight", "state"].map((key) => unpack(records[index][key]));
      const at = (t, s) => (t * (t - 1)) / 2 + s - 1;
      unpacked.set(index, { kept: (t, s) => kept[at(t, s)], weight: (t, s) => weight[at(t, s)],
        state: (t, n) => state[(t - 1) * d_state + n] });
    }
    return unpacked.get(index);
  }

  const pick = (key, convert = (value) => value) => (value) => store(model, key, convert(value));
  const numbers = (key) => values(key).map((value) => [String(value), String(value)]);
  const controls = {
    source: radios("Tokens are", [["photo", "patches of a photo"], ["sentence", "characters"]], "", pick("source")),
    length: radios("Tokens L", numbers("length"), "", pick("length", Number)),
    trained: radios("The SSM is", [["false", "fresh"], ["true", "trained"]], "", pick("trained", (v) => v === "true")),
    d_state: radios("State size N", numbers("d_state"), "", pick("d_state", Number)),
    heads: radios("Heads", model.get("head_counts").map((n) => [String(n), String(n)]), "", pick("heads", Number)),
    measure: radios("Shading of the SSM", [["kept", "left of each token"], ["weight", "share of the state"]], "",
      pick("measure")),
  };
  const width = select("Width D", model.get("widths").map((one) => h("option", { value: one }, one)),
    (value) => store(model, "width", Number(value)));

  const sliderId = uid();
  const slider = h("input", { type: "range", min: 1, step: 1, id: sliderId,
    oninput: () => { pause(); store(model, "token", slider.valueAsNumber); } });
  const play = h("button", { type: "button", hidden: still, onclick: () => (timer ? pause() : start()) });
  const move = (by) => () => {
    pause();
    store(model, "token", Math.min(model.get("length"), Math.max(1, model.get("token") + by)));
  };
  const player = h("div", { class: "mo-player" }, play,
    h("button", { type: "button", onclick: move(-1) }, "Back"),
    h("button", { type: "button", onclick: move(1) }, "Step"),
    h("label", { for: sliderId }, "Token"), slider);

  const say = h("p", { class: "mo-say", role: "status" });
  const ask = h("p", { class: "mo-note mo-ask", "aria-live": "polite" });
  const later = h("p", { class: "mo-note" });
  const sides = Object.fromEntries(["attention", "ssm"].map((key) => {
    const grid = h("div", { class: "mo-tokens", role: "img" }), store = h("div");
    const caption = h("p", { class: "mo-note" });
    const element = h("section", {}, h("p", { class: "mo-head" }, MIXERS[key].name), grid, store, caption);
    return [key, { grid, store, caption, element }];
  }));
  const costs = h("table"), table = h("table");
  const root = h("div", { class: "mo mo-memory", role: "group", "aria-label": "Two kinds of memory" },
    h("div", { class: "mo-controls" }, ["source", "length", "trained", "d_state"].map((key) => controls[key].element),
      width.element, controls.heads.element, controls.measure.element),
    player, say,
    h("div", { class: "mo-columns" }, sides.attention.element, sides.ssm.element),
    ask, costs, later,
    h("details", { class: "mo-details" }, h("summary", {}, "Data table (every token)"),
      h("div", { class: "mo-scroll", tabindex: 0, role: "region", "aria-label": "Every token" }, table)));

  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    say.setAttribute("aria-live", "polite");
  }
  function start() {
    if (model.get("token") >= model.get("length")) store(model, "token", 1);
    play.textContent = "Pause";
    say.setAttribute("aria-live", "off"); // nobody wants each of a hundred tokens read out
    timer = setInterval(() => {
      store(model, "token", model.get("token") + 1);
      if (model.get("token") >= model.get("length")) pause();
    }, 12000 / model.get("length"));
  }

  const label = (now, s) => {
    if (now.source === "sentence") return `“${text[s - 1] === " " ? "␣" : text[s - 1]}”`;
    const side = Math.sqrt(now.length);
    return `row ${Math.ceil(s / side)}, column ${((s - 1) % side) + 1}`;
  };

  /** The tokens themselves, once for each memory: cells whose shading `update` sets. */
  function build(now) {
    const side = Math.sqrt(now.length);
    for (const { grid } of Object.values(sides)) {
      const photo = now.source === "photo";
      grid.classList.toggle("mo-patches", photo);
      grid.style.setProperty("--side", side);
      fill(grid, Array.from({ length: now.length }, (_, i) => h("i", { "data-token": i + 1 }, photo
        ? h("b", { style: `background-image:url(${model.get("photo")});background-size:${100 * side}%;` +
          `background-position:${(100 * (i % side)) / (side - 1)}% ${(100 * Math.floor(i / side)) / (side - 1)}%` })
        : text[i])));
    }
  }

  /** Keys and values, or the state, to one scale: a slot is as wide for a token as for a number of state. */
  function bars(now, held) {
    const slot = 400 / Math.max(now.length, now.d_state), high = 30;
    const strip = (y, count, colour, shade) => Array.from({ length: count }, (_, i) =>
      s("rect", { x: i * slot, y, width: slot * 0.86, height: high,
        style: `fill:color-mix(in srgb, ${colour} ${Math.round(shade(i))}%, var(--well))` }));
    const lines = (y) => Array.from({ length: now.heads - 1 }, (_, i) => {
      const at = y + (high * (i + 1)) / now.heads;
      return s("line", { x1: 0, x2: now.token * slot, y1: at, y2: at });
    });
    const drawing = (height, ...content) =>
      s("svg", { viewBox: `0 0 400 ${height}`, class: "mo-store", "aria-hidden": "true" }, content);
    const fresh = (i) => (i === now.token - 1 ? 100 : 60);
    fill(sides.attention.store, drawing(2 * high + 4, strip(0, now.token, MIXERS.attention.colour, fresh),
      strip(high + 4, now.token, MIXERS.attention.colour, fresh), lines(0), lines(high + 4)));
    fill(sides.ssm.store, drawing(2 * high + 4,
      strip(0, now.d_state, MIXERS.ssm.colour, (n) => 12 + 88 * Math.sqrt(held.state(now.token, n)))));
  }

  function point(s) {
    pointed = s;
    const now = get(), held = record(now);
    root.querySelectorAll(".mo-tokens i").forEach((one) => one.classList.toggle("mo-near", Number(one.dataset.token) === s));
    fill(ask, s == null ? "Point at a token, or tap it, to ask what is left of it."
      : s > now.token ? `Token ${s} (${label(now, s)}) is still to come.`
        : `Token ${s} (${label(now, s)}): attention holds its key and value; in the SSM's state ` +
          `${whole(held.kept(now.token, s))} of it is left, ${whole(held.weight(now.token, s))} of the state.`);
  }

  function update() {
    const now = get();
    if (now.token > now.length || now.token < 1) return store(model, "token", Math.min(now.length, Math.max(1, now.token)));
    for (const [key, control] of Object.entries(controls)) control.set(now[key]);
    width.control.value = now.width;
    slider.max = now.length;
    slider.value = now.token;
    slider.setAttribute("aria-valuetext", `${now.token} of ${now.length}: ${label(now, now.token)}`);
    if (built !== `${now.source} ${now.length}`) build(now);
    built = `${now.source} ${now.length}`;

    const t = now.token, held = record(now), shares = Array.from({ length: t }, (_, i) => held[now.measure](t, i + 1));
    const most = now.measure === "kept" ? 1 : Math.max(...shares);
    for (const [key, { grid }] of Object.entries(sides)) {
      [...grid.children].forEach((cell, i) => {
        const share = i >= t ? 0 : key === "attention" ? 1 : shares[i] / most;
        cell.classList.toggle("mo-new", i === t - 1);
        if (now.source === "photo") cell.firstChild.style.opacity = share;
        else {
          cell.style.background = share ? `color-mix(in srgb, ${MIXERS[key].colour} ${Math.round(60 * share)}%, var(--card))` : "";
          cell.classList.toggle("mo-ahead", i >= t);
        }
      });
    }
    bars(now, held);
    const kept = Array.from({ length: t }, (_, i) => held.kept(t, i + 1));
    const mean = kept.reduce((sum, one) => sum + one, 0) / t;
    const what = now.source === "photo" ? `Photo (${model.get("photo_name")})` : `Text “${text.slice(0, now.length)}”`;
    sides.attention.grid.setAttribute("aria-label", `${what}: tokens 1 to ${t} are all there`);
    sides.ssm.grid.setAttribute("aria-label", now.measure === "kept"
      ? `${what}: of tokens 1 to ${t} ${whole(mean)} is left on average, of the first ${whole(kept[0])}`
      : `${what}: tokens 1 to ${t}; the largest share of the state is ${whole(most)}, the last token's ${whole(shares[t - 1])}`);
    fill(sides.attention.caption, `${t} keys (above) and ${t} values (below) of ${now.width} numbers` +
      (now.heads > 1 ? `, cut into ${now.heads} heads of ${now.width / now.heads}. The heads do not change the sum.` : "."));
    fill(sides.ssm.caption, `${by(now.width, now.d_state)} numbers, rewritten by every token. To the same scale; ` +
      "the stronger the colour, the larger.");
    fill(say, h("b", {}, `Token ${t} of ${now.length}. `), `Attention holds all ${t} unchanged. The SSM still holds ` +
      `${integer(now.width * now.d_state)} numbers: of the first token ${whole(kept[0])} is left in them, of all that ` +
      `were read ${whole(mean)} on average.`);

    const exact = (value, unit = "") => h("td", {}, h("data", { value }, compact(value), unit));
    fill(costs, h("caption", { class: "mo-hidden" }, "Memory and work at this token"),
      h("thead", {}, h("tr", {}, ["", "Bytes held", "MACs now", "MACs so far"].map((name, i) =>
        h("th", { scope: "col" }, i ? name : hidden("Mixer"))))),
      h("tbody", {}, Object.entries(MIXERS).map(([key, { name, colour }]) => {
        let sum = 0;
        for (let i = 1; i <= t; i++) sum += STEPS[key](now, i).macs;
        const step = STEPS[key](now, t);
        return h("tr", { "data-mixer": key },
          h("th", { scope: "row" }, h("i", { class: "mo-swatch", style: `background:${colour}` }), name),
          exact(BYTES * step.numbers), exact(step.macs), exact(sum));
      })));
    const far = Object.fromEntries(Object.keys(STEPS).map((key) => [key, STEPS[key](now, LONG)]));
    fill(later, `After ${integer(LONG)} tokens attention would hold ${compact(BYTES * far.attention.numbers)}B and spend ` +
      `${compact(far.attention.macs)} MACs on a token; the SSM the same ${compact(BYTES * far.ssm.numbers)}B and ` +
      `${compact(far.ssm.macs)}. Bytes are those of float32. The shading is computed with models of width ` +
      `${model.get("model_width")}, bytes and MACs for the width chosen.`);
    fill(table, h("caption", { class: "mo-hidden" }, `What is left after token ${t}`),
      h("thead", {}, h("tr", {}, ["Token", "Left in the state", "Share of the state"].map((name) =>
        h("th", { scope: "col" }, name)))),
      h("tbody", {}, kept.map((one, i) => h("tr", {}, h("th", { scope: "row" }, `${i + 1}, ${label(now, i + 1)}`),
        h("td", {}, percent(one, 1)), h("td", {}, percent(held.weight(t, i + 1), 1))))));
    point(pointed);
  }

  const tokenAt = (event) => Number(event.target.closest?.("[data-token]")?.dataset.token) || null;
  const over = (event) => { const s = tokenAt(event); if (s !== pointed) point(s); };
  for (const { grid } of Object.values(sides)) {
    grid.addEventListener("pointermove", over);
    grid.addEventListener("pointerdown", over);
    grid.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && point(null));
  }
  el.append(root);
  pause();
  update();
  const stop = observe(model,
    ["source", "trained", "d_state", "length", "width", "heads", "measure", "token"], update);
  return () => {
    pause();
    stop();
    root.remove();
  };
}

export default { render };
