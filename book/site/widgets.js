// Shows the book's interactive figures without a kernel.
//
// myst-nb embeds the state of a chapter's widgets in its page, and a small script element where each one stands.
// This host gives every anywidget its state and the few methods of a model that our widgets use (get, set,
// save_changes, on, off, widget_manager.get_model). It is a classic script, so that it also runs from file://.
(() => {
  "use strict";

  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";

  function decode(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i); // much faster than Uint8Array.from
    return new DataView(bytes.buffer);
  }

  // What a figure loads on demand comes in scripts of base64 text, which also load from file://. Each of them calls
  // bookParcel with its name.
  const arrivals = new Map(); // name of a script on its way -> what to do with its text
  const underway = new Map(); // address -> promise, so that two figures can ask for the same
  globalThis.bookParcel = (name, base64) => arrivals.get(name)?.(base64);

  function fetchPart(url) {
    if (!underway.has(url)) {
      const part = new Promise((resolve, reject) => {
        const script = document.createElement("script");
        // After bookParcel was called, rejecting does nothing.
        const settle = () => (script.remove(), reject(new Error(`${url} could not be loaded`)));
        arrivals.set(url.split("/").at(-1), (base64) => resolve(decode(base64)));
        Object.assign(script, { src: url, onload: settle, onerror: settle });
        document.head.append(script);
      });
      underway.set(url, part.finally(() => underway.delete(url)));
    }
    return underway.get(url);
  }

  /** A function that loads a buffer of `bytes`, telling `progress` the bytes so far and in all. */
  function onDemand({ parts, bytes }) {
    async function load(progress = () => {}) {
      const content = new Uint8Array(bytes);
      let done = 0;
      progress(done, bytes);
      for (const url of parts) {
        const part = await fetchPart(url);
        content.set(new Uint8Array(part.buffer), done);
        done += part.byteLength;
        progress(done, bytes);
      }
      return new DataView(content.buffer);
    }
    return Object.assign(load, { bytes });
  }

  class Model {
    constructor({ state, buffers = [] }) {
      this.state = state;
      this.listeners = new Map();
      this.widget_manager = { get_model: async (id) => models.get(id.replace(/^IPY_MODEL_/, "")) };
      for (const buffer of buffers) {
        const { path } = buffer;
        const parent = path.slice(0, -1).reduce((value, key) => value[key], state);
        parent[path.at(-1)] = buffer.parts ? onDemand(buffer) : decode(buffer.data);
      }
    }
    get(key) {
      return this.state[key];
    }
    set(key, value) {
      if (Object.is(this.state[key], value)) return;
      this.state[key] = value;
      for (const event of [`change:${key}`, "change"]) {
        for (const listener of [...(this.listeners.get(event) ?? [])]) listener(this, value);
      }
    }
    save_changes() {} // There is no kernel to tell.
    on(event, listener) {
      if (!this.listeners.has(event)) this.listeners.set(event, new Set());
      this.listeners.get(event).add(listener);
    }
    off(event, listener) {
      if (listener) this.listeners.get(event)?.delete(listener);
      else if (event) this.listeners.delete(event);
      else this.listeners.clear();
    }
  }

  const models = new Map();
  const modules = new Map(); // source text -> promise of the module, so that each is imported once
  const styles = new Set();
  const cleanups = [];

  function load(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(url).finally(() => URL.revokeObjectURL(url)));
    }
    return modules.get(source);
  }

  function addStyle(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  }

  async function show(host) {
    if (host.dataset.state) return;
    host.dataset.state = "loading";
    try {
      const model = models.get(host.dataset.model);
      if (!model?.get("_esm")) throw new Error("it is not a widget of this book");
      addStyle(model.get("_css"));
      const { default: exported } = await load(model.get("_esm"));
      const widget = typeof exported === "function" ? await exported() : exported;
      await (model.ready ??= widget.initialize?.({ model }) ?? true);
      const cleanup = await widget.render({ model, el: host });
      if (cleanup) cleanups.push(cleanup);
      host.dataset.state = "shown";
    } catch (error) {
      host.dataset.state = "failed";
      const message = document.createElement("p");
      message.setAttribute("role", "alert");
      message.textContent = `This interactive figure could not be shown: ${error.message}.`;
      host.replaceChildren(message);
      console.error(error);
    }
  }

  for (const script of document.querySelectorAll(`script[type="${STATE}"]`)) {
    for (const [id, entry] of Object.entries(JSON.parse(script.textContent).state)) models.set(id, new Model(entry));
  }
  const hosts = [...document.querySelectorAll(`script[type="${VIEW}"]`)].map((script) => {
    const host = document.createElement("div");
    host.className = "widget-host";
    host.dataset.model = JSON.parse(script.textContent).model_id;
    script.replaceWith(host);
    return host;
  });

  // Start a figure when it comes within one screen, so that a page with many of them still opens at once.
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        show(target);
      }
    },
    { rootMargin: "100% 0px" },
  );
  hosts.forEach((host) => observer.observe(host));
  addEventListener("beforeprint", () => hosts.forEach(show));
  addEventListener("pagehide", ({ persisted }) => {
    if (!persisted) cleanups.splice(0).forEach((cleanup) => cleanup());
  });
})();
