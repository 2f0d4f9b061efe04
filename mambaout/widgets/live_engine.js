// Loads ONNX Runtime Web and runs the two graphs of a model.

/** Why this browser cannot run a model; empty if it can. */
function obstacle() {
  if (typeof WebAssembly !== "object") {
    return "This browser runs no WebAssembly (some switch it off for safety), and the model needs it.";
  }
  if (typeof DecompressionStream !== "function") return "This browser is too old to unpack the model's runtime.";
  return "";
}

/** A trait's bytes: those that the model holds, those that the book's page can load, or those that a kernel sends. */
async function bytesOf(model, name, progress) {
  const held = model.get(name);
  if (typeof held === "function") return held(progress);
  if (held?.byteLength) return held;
  return new Promise((resolve, reject) => {
    const stop = observe(model, [name, "missing"], () => {
      stop();
      if (model.get("missing")) reject(new Error(model.get("missing")));
      else resolve(model.get(name));
    });
    store(model, "wanted", name);
    setTimeout(() => (stop(), reject(new Error("the Python kernel does not answer; run the cell again"))), 60_000);
  });
}

const array = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

let runtime = null; // a promise: one runtime for all figures
function loadRuntime(model, progress) {
  runtime ??= (async () => {
    const script = array(await bytesOf(model, "runtime_js", () => {}));
    const packed = array(await bytesOf(model, "runtime_wasm", progress));
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    const ort = await import(url).finally(() => URL.revokeObjectURL(url));
    ort.env.wasm.wasmBinary = await new Response(
      new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    ort.env.wasm.numThreads = 1; // more would need a server that isolates the page
    ort.env.logLevel = "error";
    return ort;
  })();
  runtime.catch(() => (runtime = null)); // so that one can try again
  return runtime;
}

/** A model that answers: {probabilities, maps, inside} for an image, and the field of one output. */
async function loadEngine(model, row, progress) {
  const shares = {};
  const part = (name) => (done, total) => {
    shares[name] = [done, total];
    progress(...Object.values(shares).reduce(([a, b], [x, y]) => [a + x, b + y], [0, 0]));
  };
  const content = array(await bytesOf(model, row.trait, part("model")));
  const ort = await loadRuntime(model, part("runtime"));
  const [f, g] = row.sizes;
  const weights = content.subarray(f + g);
  const session = (graph) => ort.InferenceSession.create(graph, {
    executionProviders: ["wasm"], externalData: [{ path: "weights.safetensors", data: weights }] });
  const forward = await session(content.subarray(0, f));
  const gradient = await session(content.subarray(f, f + g));
  const [height, width] = model.get("size");

  const tensor = (data, dims) => new ort.Tensor("float32", data, dims);
  function inputs(pixels, switches) {
    const image = Float32Array.from(pixels, (value) => (value / 255 - row.mean) / row.std);
    const on = Float32Array.from(row.blocks.flatMap((_, b) => row.parts.map((name) => switches[name][b])));
    return { image: tensor(image, [1, 1, height, width]),
      switches: tensor(on, [row.blocks.length, row.parts.length]) };
  }
  /** Runs a graph and hands its outputs on; their memory is given back at once. */
  async function run(graph, feeds, names) {
    const begin = performance.now();
    const results = await graph.run(feeds, names);
    const values = Object.fromEntries(names.map((name) => [name, Float32Array.from(results[name].data)]));
    for (const one of [...Object.values(results), ...Object.values(feeds)]) one.dispose();
    return { ...values, milliseconds: performance.now() - begin };
  }
  return {
    /** `names` are those of the graph's outputs: probabilities, map0, ..., block0, ... */
    forward: (pixels, switches, names) => run(forward, inputs(pixels, switches), names),
    /** What the output at `location` of a stage's map reads: (H, W) of |gradient|. */
    field(pixels, switches, stage, [line, column]) {
      const feeds = inputs(pixels, switches);
      row.maps.forEach(([channels, h, w], i) => {
        const cotangent = new Float32Array(channels * h * w);
        if (i === stage) row.signs[i].forEach((sign, c) => (cotangent[(c * h + line) * w + column] = sign));
        feeds[`cotangent${i}`] = tensor(cotangent, [1, channels, h, w]);
      });
      return run(gradient, feeds, ["field"]);
    },
  };
}
