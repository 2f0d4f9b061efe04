// Boards: small pictures that are drawn pixel by pixel, and answer to pointer and keyboard.

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// matplotlib's inferno, as in the book's other pictures of receptive fields; blue, white and orange for signs.
const INFERNO = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39],
  [252, 255, 164]];
const SIGNED = [[0, 72, 132], [86, 160, 211], [246, 246, 246], [238, 146, 70], [158, 66, 0]];

/** The colour at `share` from 0 to 1. */
function colour(scale, share) {
  const at = Math.min(1, Math.max(0, share)) * (scale.length - 1), low = Math.min(scale.length - 2, Math.floor(at));
  return scale[low].map((value, i) => value + (at - low) * (scale[low + 1][i] - value));
}

/** Writes an image of `height` by `width`; `pixel(i)` gives red, green and blue of pixel i, or null: nothing is there. */
function paint(canvas, height, width, pixel) {
  if (canvas.height !== height || canvas.width !== width) Object.assign(canvas, { height, width });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    const rgb = pixel(i);
    if (rgb) image.data.set([...rgb, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

/** The image in grey, and over it the field: near zero it is transparent. */
function paintField(canvas, [height, width], pixels, field) {
  const largest = field ? Math.max(...field) || 1 : 1;
  paint(canvas, height, width, (i) => {
    const grey = [pixels[i], pixels[i], pixels[i]];
    if (!field) return grey;
    const share = field[i] / largest, alpha = 0.9 * Math.sqrt(share);
    return colour(INFERNO, share).map((value, k) => alpha * value + (1 - alpha) * grey[k]);
  });
}

/** Maps of `channels` side by side; positive numbers orange, negative ones blue, all on one scale. */
function paintChannels(canvas, values, first, channels, height, width, columns) {
  const rows = Math.ceil(channels / columns);
  let limit = 1e-9;
  for (let i = first * height * width; i < (first + channels) * height * width; i++) {
    limit = Math.max(limit, Math.abs(values[i]));
  }
  const across = columns * (width + 1) - 1;
  paint(canvas, rows * (height + 1) - 1, across, (i) => {
    const y = Math.floor(i / across), x = i % across, row = y % (height + 1), column = x % (width + 1);
    const channel = Math.floor(y / (height + 1)) * columns + Math.floor(x / (width + 1));
    if (row === height || column === width || channel >= channels) return null;
    const value = values[((first + channel) * height + row) * width + column];
    return colour(SIGNED, 0.5 + 0.5 * Math.sign(value) * Math.sqrt(Math.abs(value) / limit));
  });
}

/** A picture with a square on one place of a grid that can be clicked and walked over; `onpick` gets [row, column]. */
function placeBoard(label, onpick) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const mark = h("i", { "aria-hidden": "true" });
  const element = h("div", { class: "mo-board mo-pixels", tabindex: 0, role: "application", "aria-label": label,
    onclick: (event) => {
      const box = canvas.getBoundingClientRect();
      pick(Math.floor((grid[0] * (event.clientY - box.top)) / box.height),
        Math.floor((grid[1] * (event.clientX - box.left)) / box.width));
    },
    onkeydown: (event) => {
      const step = ARROWS[event.key];
      if (!step) return;
      event.preventDefault();
      pick(place[0] + step[0], place[1] + step[1]);
    } }, canvas, mark);
  let grid = [1, 1], place = [0, 0];
  const pick = (row, column) => onpick([row, column].map((at, i) => Math.min(grid[i] - 1, Math.max(0, at))));
  return { element, canvas,
    set(size, at) {
      [grid, place] = [size, at];
      mark.style.cssText = `inset:${(100 * at[0]) / size[0]}% auto auto ${(100 * at[1]) / size[1]}%;` +
        `height:${100 / size[0]}%;width:${100 / size[1]}%`;
    } };
}

/** A board to draw on, with mouse, pen, finger or keys; `onchange(done)` follows each stroke and ends it. */
function drawingBoard([height, width], label, erases, onchange) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const brush = h("i", { "aria-hidden": "true" });
  const element = h("div", { class: "mo-board mo-pixels mo-paper", tabindex: 0, role: "application",
    "aria-label": label }, canvas, brush);
  let pixels = new Uint8Array(height * width), last = null, cursor = [height >> 1, width >> 1];

  function dab(row, column) {
    for (let y = Math.max(0, Math.floor(row - 2)); y <= Math.min(height - 1, row + 2); y++) {
      for (let x = Math.max(0, Math.floor(column - 2)); x <= Math.min(width - 1, column + 2); x++) {
        // A round brush two pixels wide, soft at its rim.
        const ink = 255 * Math.min(1, Math.max(0, 1.6 - Math.hypot(y + 0.5 - row, x + 0.5 - column)));
        const i = y * width + x;
        pixels[i] = erases() ? Math.min(pixels[i], 255 - ink) : Math.max(pixels[i], ink);
      }
    }
  }
  function stroke(to) {
    const from = last ?? to, steps = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let i = 1; i <= steps; i++) dab(...from.map((at, k) => at + ((to[k] - at) * i) / steps));
    last = to;
  }
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(height * (event.clientY - box.top)) / box.height, (width * (event.clientX - box.left)) / box.width];
  };
  const show = () => paint(canvas, height, width, (i) => [pixels[i], pixels[i], pixels[i]]);
  function change(done) {
    show();
    onchange(pixels, done);
  }
  element.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    element.setPointerCapture(event.pointerId);
    last = null;
    stroke(at(event));
    change(false);
  });
  element.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) stroke(at(one));
    change(false);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, () => last && ((last = null), change(true)));
  }
  const point = () => (brush.style.cssText = `inset:${(100 * cursor[0]) / height}% auto auto ` +
    `${(100 * cursor[1]) / width}%;height:${100 / height}%;width:${100 / width}%`);
  element.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (step) cursor = [Math.min(height - 1, Math.max(0, cursor[0] + step[0])),
      Math.min(width - 1, Math.max(0, cursor[1] + step[1]))];
    else if (event.key !== " ") return;
    event.preventDefault();
    point();
    if (event.key !== " " && !event.shiftKey) return; // arrows move the brush; with shift they paint on the way
    dab(cursor[0] + 0.5, cursor[1] + 0.5);
    change(true);
  });
  point();
  return { element,
    set(values) {
      pixels = Uint8Array.from(values);
      show();
    } };
}

/** Any picture as grey pixels of the data's kind: whole, centred, light on dark. */
async function readPicture(file, [height, width]) {
  const bitmap = await createImageBitmap(file);
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  function drawn(paper, w, tall) {
    context.fillStyle = paper; // shows where the picture is transparent, and beside it
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, (width - w) / 2, (height - tall) / 2, w, tall);
    const { data } = context.getImageData(0, 0, width, height);
    return Uint8Array.from({ length: height * width }, (_, i) =>
      0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]); // luma (ITU-R BT.601)
  }
  const rim = drawn("#fff", width, height).filter((_, i) =>
    i < width || i >= (height - 1) * width || i % width % (width - 1) === 0);
  const light = rim.reduce((sum, value) => sum + value, 0) / rim.length > 127;
  const scale = Math.min(width / bitmap.width, height / bitmap.height);
  const grey = drawn(light ? "#fff" : "#000", bitmap.width * scale, bitmap.height * scale);
  bitmap.close();
  return light ? grey.map((value) => 255 - value) : grey;
}
