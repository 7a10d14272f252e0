"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const find = (id) => document.getElementById(id);
const korean = () => root.dataset.language === "ko";

// --- Languages, shades, and the state in the URL --------------------------------------

function show(language) {
  root.dataset.language = root.lang = language;
  find("english").setAttribute("aria-pressed", String(language === "en"));
  find("korean").setAttribute("aria-pressed", String(language === "ko"));
  document.querySelectorAll("option[data-en]").forEach((option) => {
    option.textContent = option.dataset[language];
  });
  remember("language", language);
}

const state = new URLSearchParams(location.hash.slice(1));

function remember(name, value) {
  state.set(name, value);
  history.replaceState(null, "", "#" + state);
}

find("english").addEventListener("click", () => show("en"));
find("korean").addEventListener("click", () => show("ko"));
find("dark").addEventListener("click", () => {
  const dark = root.dataset.shade
    ? root.dataset.shade === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.shade = dark ? "light" : "dark";
});
root.classList.add("scripted");
if (["en", "ko"].includes(state.get("language"))) show(state.get("language"));

// --- Numbers and pictures -------------------------------------------------------------

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Return float16 numbers (little-endian, base64) as float32. */
function halves(text) {
  const raw = new DataView(bytes(text).buffer);
  const out = new Float32Array(raw.byteLength / 2);
  for (let i = 0; i < out.length; i++) {
    const h = raw.getUint16(2 * i, true);
    const sign = h & 0x8000 ? -1 : 1;
    const exponent = (h >> 10) & 31;
    const fraction = h & 1023;
    out[i] = exponent
      ? sign * 2 ** (exponent - 25) * (1024 + fraction)
      : sign * 2 ** -24 * fraction;
  }
  return out;
}

/** Draw a picture of bytes on a canvas; ink is dark on white. */
function paint(canvas, picture) {
  const [rows, columns] = data.shape;
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const grey = data.ink ? 255 - picture[i] : picture[i];
    image.data.set([grey, grey, grey, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

/** Return a colour of the style as it is now; a canvas does not know its names. */
function colour(name) {
  return getComputedStyle(find("colour-" + name)).color;
}

// --- The decoder: this run's own weights ----------------------------------------------

const net = data.decoder && {
  ...data.decoder,
  layers: data.decoder.layers.map(([W, b, n, m]) => [halves(W), halves(b), n, m]),
};

const activations = {
  linear: (a) => a,
  relu: (a) => Math.max(a, 0),
  leaky_relu: (a) => (a > 0 ? a : net.slope * a),
  sigmoid: (a) => 1 / (1 + Math.exp(-a)),
  tanh: Math.tanh,
};

/** Decode a code: h = f(h W + b) for each layer, as in NumPy. */
function decode(code) {
  let h = Float32Array.from(code);
  net.layers.forEach(([W, b, n, m], k) => {
    const a = Float32Array.from(b);
    for (let i = 0; i < n; i++) {
      if (h[i]) for (let j = 0; j < m; j++) a[j] += h[i] * W[i * m + j];
    }
    const last = k === net.layers.length - 1;
    h = a.map(activations[last ? net.output : net.activation]);
  });
  return h;
}

function paintCode(canvas, code) {
  paint(canvas, Uint8ClampedArray.from(decode(code), (p) => Math.round(255 * p)));
}

/** Compare with NumPy's pictures of the first codes; return the largest difference. */
function selfCheck() {
  const expected = new Float32Array(bytes(net.checks).buffer);
  const pixels = data.shape[0] * data.shape[1];
  let worst = 0;
  for (let n = 0; n * pixels < expected.length; n++) {
    decode(net.codes[n]).forEach((p, i) => {
      worst = Math.max(worst, Math.abs(p - expected[n * pixels + i]));
    });
  }
  return worst;
}

if (net) {
  const worst = selfCheck();
  document.querySelectorAll(".difference").forEach((place) => {
    place.textContent = worst.toExponential(1);
  });
}

// --- The pad: two numbers of a code ---------------------------------------------------

if (net && find("pad")) {
  const pad = find("pad");
  const code = [...net.mean];
  const chosen = [...net.first];
  const sliders = [find("pad-0"), find("pad-1")];
  const choices = [find("dimension-0"), find("dimension-1")];
  choices.forEach((choice, k) => (choice.value = chosen[k]));

  const drawPad = () => {
    paintCode(find("decoded"), code);
    const context = pad.getContext("2d");
    context.clearRect(0, 0, pad.width, pad.height);
    context.strokeStyle = colour("line");
    context.strokeRect(pad.width / 2, -1, 0.5, pad.height + 2);
    context.strokeRect(-1, pad.height / 2, pad.width + 2, 0.5);
    const [u, v] = sliders.map((slider) => Number(slider.value));
    context.fillStyle = colour("blue");
    context.beginPath();
    context.arc((pad.width * (u + 1)) / 2, (pad.height * (1 - v)) / 2, 8, 0, 7);
    context.fill();
  };
  const move = () => {
    sliders.forEach((slider, k) => {
      const d = chosen[k];
      code[d] = net.mean[d] + Number(slider.value) * net.range[d];
      slider.setAttribute("aria-valuetext", code[d].toFixed(2));
      remember("z" + k, slider.value);
    });
    drawPad();
  };
  sliders.forEach((slider, k) => {
    if (state.has("z" + k)) slider.value = state.get("z" + k);
    slider.addEventListener("input", move);
  });
  choices.forEach((choice, k) =>
    choice.addEventListener("change", () => {
      code[chosen[k]] = net.mean[chosen[k]];
      chosen[k] = Number(choice.value);
      move();
    })
  );
  const point = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = pad.getBoundingClientRect();
    sliders[0].value = (2 * (event.clientX - box.left)) / box.width - 1;
    sliders[1].value = 1 - (2 * (event.clientY - box.top)) / box.height;
    move();
  };
  pad.addEventListener("pointerdown", point);
  pad.addEventListener("pointermove", point);
  move();
}

// --- The walk between two codes -------------------------------------------------------

if (net && find("walk")) {
  const ends = [find("from"), find("to")];
  const walk = find("walk");
  const step = () => {
    const t = Number(walk.value);
    const [a, b] = ends.map((end) => net.codes[Number(end.value)]);
    paintCode(find("walked"), a.map((value, i) => value + t * (b[i] - value)));
    walk.setAttribute("aria-valuetext", Math.round(100 * t) + " %");
    remember("walk", walk.value);
  };
  if (state.has("walk")) walk.value = state.get("walk");
  [walk, ...ends].forEach((input) => input.addEventListener("input", step));
  step();
}

// --- The plane of codes ---------------------------------------------------------------

if (data.plane && find("plane")) {
  const { points, labels } = data.plane;
  const pictures = bytes(data.plane.pictures);
  const pixels = data.shape[0] * data.shape[1];
  const canvas = find("plane");
  const slider = find("plane-image");
  const colors = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a8f96",
    "#7F3C8D", "#8B6D00", "#7F7F7F",
  ];
  const low = [0, 1].map((k) => Math.min(...points.map((p) => p[k])));
  const high = [0, 1].map((k) => Math.max(...points.map((p) => p[k])));
  const place = (p) => [
    16 + ((p[0] - low[0]) / (high[0] - low[0] || 1)) * (canvas.width - 32),
    canvas.height - 16 - ((p[1] - low[1]) / (high[1] - low[1] || 1)) * (canvas.height - 32),
  ];
  const draw = (chosen) => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.font = "600 15px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    points.forEach((p, i) => {
      context.fillStyle = colors[labels ? labels[i] % 10 : 0];
      const [u, v] = place(p);
      context.fillText(labels ? labels[i] : "•", u, v);
    });
    const [u, v] = place(points[chosen]);
    context.strokeStyle = colour("ink");
    context.lineWidth = 2;
    context.strokeRect(u - 11, v - 11, 22, 22);
    paint(find("plane-picture"), pictures.subarray(chosen * pixels, (chosen + 1) * pixels));
    slider.setAttribute("aria-valuetext", labels ? String(labels[chosen]) : String(chosen));
    remember("image", chosen);
  };
  const nearest = (event) => {
    const box = canvas.getBoundingClientRect();
    const u = ((event.clientX - box.left) * canvas.width) / box.width;
    const v = ((event.clientY - box.top) * canvas.height) / box.height;
    const off = points.map((p) => Math.hypot(place(p)[0] - u, place(p)[1] - v));
    slider.value = off.indexOf(Math.min(...off));
    draw(Number(slider.value));
  };
  canvas.addEventListener("pointermove", nearest);
  canvas.addEventListener("pointerdown", nearest);
  slider.addEventListener("input", () => draw(Number(slider.value)));
  if (state.has("image")) slider.value = state.get("image");
  draw(Number(slider.value));
}
