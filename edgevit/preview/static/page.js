"use strict";

const EVERY_MS = 500;
const PATIENCE_MS = 4000; // without an answer
const QUIET_SECONDS = 3; // without a frame
// What the last word of a value's name says about it.
const UNITS = {
  percent: "%", celsius: "°C", c: "°C", mib: "MiB", mb: "MB", watts: "W", w: "W", mw: "mW", mhz: "MHz", rpm: "rpm", seconds: "s",
};
const at = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let paused = false;
let lost = false;
let stream = ""; // the name of the one on the page
let begun = 0; // when
let held = false; // the canvas has a picture
let chosen = ""; // the camera that is shown large, of several; the server's first if it is empty

// What is asked for of the chosen camera, with further parameters.
function address(path, parameters) {
  return `${path}?${new URLSearchParams(chosen ? { ...parameters, camera: chosen } : parameters)}`;
}

// A hidden page watches nothing: browsers allow six connections to a server, and encoding costs the device something.
const wanted = () => !paused && !lost && document.visibilityState === "visible";

function watch() {
  if (wanted() && !stream) {
    stream = Math.random().toString(36).slice(2);
    begun = performance.now();
    at("live").src = address("/stream", { name: stream });
  } else if (!wanted() && stream) {
    unwatch();
  }
  showScreen();
}

function unwatch() {
  keep();
  stream = "";
  at("live").removeAttribute("src");
}

// Twice a second, because a browser throws the last picture of a broken stream away.
function keep() {
  const [live, still] = [at("live"), at("still")];
  if (!stream || !live.naturalWidth) return;
  [still.width, still.height, held] = [live.naturalWidth, live.naturalHeight, true];
  still.getContext("2d").drawImage(live, 0, 0);
}

// The live picture once there is one; until then the last one.
function showScreen() {
  at("live").hidden = !stream || !at("live").naturalWidth;
  at("still").hidden = !held || !at("live").hidden;
}

at("live").addEventListener("load", showScreen);
document.addEventListener("visibilitychange", watch);

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").textContent = paused ? "Resume" : "Pause";
  at("pause").setAttribute("aria-pressed", String(paused));
  watch();
});

function say(text) {
  const status = at("status");
  if (status.textContent !== text) status.textContent = text; // screen readers say it once
  status.hidden = !text;
}

async function poll() {
  if (document.visibilityState === "visible") {
    try {
      const asked = stream;
      const about = chosen;
      const answer = await fetch(address("/state", { name: stream }), { signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.status === 401) {
        lost = true;
        say("The token is no longer valid: open the link that edgevit printed where it runs.");
      } else if (answer.status === 404) {
        choose(""); // another run, without that camera
      } else if (!answer.ok) {
        throw new Error(String(answer.status));
      } else {
        const state = await answer.json();
        lost = false;
        keep();
        // The browser does not tell that a stream has ended; the server knows.
        if (asked && asked === stream && !state.streaming && performance.now() - begun > PATIENCE_MS) unwatch();
        if (paused) say("");
        else if (about === chosen) show(state);
      }
    } catch {
      lost = true;
      say("Connection lost, retrying.");
    }
    watch();
  }
  setTimeout(poll, EVERY_MS);
}

const rows = new Map(); // the parts of each camera's entry, by its name

// One entry a camera, which stays as it is while its texts change: a finger may be on it.
function showCameras(cameras = []) {
  at("cameras").hidden = !cameras.length;
  if (cameras.map((each) => each.camera).join() !== [...rows.keys()].join()) {
    rows.clear();
    for (const each of cameras) rows.set(each.camera, cameraRow(each.camera));
    at("cameras").replaceChildren(...[...rows.values()].map((row) => row.entry));
  }
  const large = chosen || cameras[0]?.camera;
  for (const each of cameras) showCamera(rows.get(each.camera), each, each.camera === large);
}

function cameraRow(name) {
  const [entry, button, picture] = [element("li"), element("button"), element("img")];
  const [seen, speed] = [element("span", "", "seen"), element("span", "", "speed")];
  button.type = "button";
  picture.alt = "";
  picture.hidden = true;
  picture.addEventListener("load", () => { picture.hidden = false; });
  button.append(picture, element("span", name, "name"), seen, speed);
  button.addEventListener("click", () => choose(name));
  entry.append(button);
  return { entry, button, picture, seen, speed, frames: -1 };
}

function showCamera(row, each, isLarge) {
  const quiet = each.lost !== null || each.label === undefined || each.age > QUIET_SECONDS;
  row.button.setAttribute("aria-pressed", String(isLarge));
  row.button.classList.toggle("quiet", quiet);
  row.button.title = each.source;
  row.seen.textContent = each.label ?? "–";
  row.speed.textContent = quiet ? silence(each) : `${(each.fps ?? 0).toFixed(1)} fps · ${each.latency_ms.toFixed(0)} ms`;
  // A camera that shows nothing new is not asked: its answer would keep one of the browser's few connections.
  if (each.frames !== row.frames && (row.picture.complete || row.frames < 0) && each.label !== undefined) {
    row.frames = each.frames;
    row.picture.src = `/picture.jpg?${new URLSearchParams({ size: "small", camera: each.camera, frames: each.frames })}`;
  }
}

function silence(each) {
  if (each.lost !== null) return "Lost";
  return each.label === undefined ? "No picture yet" : `Nothing for ${Math.round(each.age)} s`;
}

function choose(name) {
  if (name === chosen) return;
  if (stream) unwatch();
  [chosen, held] = [name, false]; // the last picture was another camera's
  at("look").hidden = true;
  watch();
}

function show(state) {
  showCameras(state.cameras);
  at("model").textContent = state.model;
  at("facts").textContent = [state.precision, state.engine, state.source].filter(Boolean).join(" · ");
  at("frames").textContent = (state.frames + state.dropped).toLocaleString("en");
  at("dropped").textContent = state.dropped.toLocaleString("en");
  at("fps").textContent = state.fps === null ? "–" : state.fps.toFixed(1);
  showDevice(state.telemetry);
  showLook(state);
  if (state.label === undefined) {
    showNothing(state);
    return;
  }
  say(state.lost ? `Lost: ${state.lost}` : state.age > QUIET_SECONDS ? `No new picture for ${Math.round(state.age)} s.` : "");
  // Of a multi-label model all that are there; their confidences are in the bars.
  const label = state.labels?.length ? state.labels.map((each) => each.label).join(", ") : state.label;
  document.title = [label, state.camera, state.model].filter(Boolean).join(" · ");
  at("label").textContent = label;
  // What is unknown has no confidence: that of the likeliest class is in the bars.
  const believed = !state.labels && state.label === state.top_k[0]?.label;
  at("confidence").textContent = believed ? percent(state.confidence) : "";
  at("frame").textContent = [state.camera, state.name, `frame ${state.frame}`].filter(Boolean).join(" · ");
  const there = state.labels && new Set(state.labels.map((each) => each.label));
  at("top").replaceChildren(...state.top_k.map((each) => row(each, there && !there.has(each.label))));
  const raw = state.labels ? state.raw : state.raw?.slice(0, 1);
  at("raw").hidden = raw === undefined;
  if (raw) at("raw").textContent = `This frame alone: ${raw.map((each) => `${each.label}, ${percent(each.confidence)}`).join("; ")}`;
  showUsual(state);
  for (const name of ["p50", "p99"]) at(name).replaceChildren(state.latency[name].toFixed(1), element("small", " ms"));
  chart(state.history);
}

// Nothing is left of a camera that was shown before.
function showNothing(state) {
  say(state.lost ? `Lost: ${state.lost}` : "Waiting for the first picture.");
  at("label").textContent = "–";
  for (const name of ["confidence", "frame"]) at(name).textContent = "";
  for (const name of ["raw", "usual"]) at(name).hidden = true;
  for (const name of ["p50", "p99"]) at(name).textContent = "–";
  at("top").replaceChildren();
  for (const name of ["median", "largest"]) at(name).removeAttribute("points");
}

// How like the images of the build this frame is, and whether that drifts: there half of all images are above 0.5.
function showUsual({ typicality, drift }) {
  at("usual").hidden = typicality === undefined;
  if (typicality === undefined) return;
  const now = `As usual as ${percent(typicality)} of the images that it was built with`;
  const since = drift.hours.length > 1 ? `, ${drift.hours.at(-1).median.toFixed(2)} in the last ${span(drift.hours)}` : "";
  at("usual").textContent = `${now}; median ${drift.median.toFixed(2)} so far${since} (0.50 then).`;
}

function span(hours) {
  const minutes = Math.round(60 * (hours.at(-1).hour - hours.at(-2).hour));
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function row(prediction, absent) {
  const made = element("li", "", absent ? "absent" : "");
  const track = element("div", "", "track");
  const bar = element("div");
  bar.style.width = `${100 * prediction.confidence}%`;
  track.append(bar);
  track.setAttribute("aria-hidden", "true");
  const name = element("span", prediction.label, "name");
  name.title = prediction.label;
  made.append(name, element("span", percent(prediction.confidence), "figure"), track);
  return made;
}

function showDevice(telemetry) {
  const pairs = Object.entries(telemetry).filter(([, value]) => value !== null && value !== "");
  at("devicebox").hidden = !pairs.length;
  at("device").replaceChildren(...pairs.map(([name, value]) => {
    const group = element("div");
    const words = name.split("_");
    const unit = typeof value === "number" ? UNITS[words.at(-1)] : undefined;
    const text = typeof value === "number" ? String(Number(value.toFixed(1))) : value;
    const title = (unit && words.length > 1 ? words.slice(0, -1) : words).join(" ");
    group.append(element("dt", title), element("dd", unit ? `${text} ${unit}` : text));
    return group;
  }));
}

// A picture of its own, not over the live one: it shows an earlier frame, and only what of it reached the model.
function showLook({ attention, attention_map: map }) {
  at("lookbox").hidden = !attention;
  if (!attention) return;
  at("lookmap").textContent = map;
  if (attention.error) {
    at("lookage").textContent = `Not available: ${attention.error}`;
  } else if (attention.number) {
    at("lookage").textContent = `Frame ${attention.frame}, ${attention.age.toFixed(1)} s old`;
    const source = address("/attention.jpg", { number: attention.number });
    if (at("look").getAttribute("src") !== source) at("look").src = source;
    at("look").alt = `Heat map of the model's attention over frame ${attention.frame}`;
    at("look").hidden = false;
  }
}

// Left and right edge, top and bottom of the chart in the units of its viewBox.
const [LEFT, RIGHT, TOP, BOTTOM, SECONDS] = [40, 596, 14, 148, 60];

function chart(history) {
  const points = history.filter(([ago]) => ago <= SECONDS);
  if (!points.length) return;
  // One late frame must not flatten all others: what is above the chart is cut off.
  const most = points.map(([, , largest]) => largest).sort((a, b) => a - b);
  const usual = 1.2 * most[Math.floor(0.9 * (most.length - 1))];
  const top = niceAbove(Math.max(usual, ...points.map(([, median]) => 1.5 * median)));
  const x = (ago) => (RIGHT - ((RIGHT - LEFT) * ago) / SECONDS).toFixed(1);
  const y = (ms) => (BOTTOM - ((BOTTOM - TOP) * Math.min(ms, top)) / top).toFixed(1);
  const line = (values) => values.map(([ago, ms]) => `${x(ago)},${y(ms)}`).join(" ");
  const medians = points.map(([ago, median]) => [ago, median]);
  const largest = points.map(([ago, , most]) => [ago, most]);
  at("median").setAttribute("points", line(medians));
  at("largest").setAttribute("points", `${line(largest)} ${line([[points.at(-1)[0], 0], [points[0][0], 0]])}`);
  at("grid").replaceChildren(...[0, 0.5, 1].flatMap((share) => gridLine(share * top, y(share * top))));
  const now = points.at(-1);
  at("chart").setAttribute("aria-label", `Median ${now[1]} ms, largest ${now[2]} ms in the last half second`);
}

function gridLine(ms, y) {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of Object.entries({ x1: LEFT, x2: RIGHT, y1: y, y2: y })) line.setAttribute(name, value);
  const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
  for (const [name, value] of Object.entries({ x: LEFT - 6, y: Number(y) + 5, "text-anchor": "end", class: "axis" })) {
    text.setAttribute(name, value);
  }
  text.textContent = Number(ms.toPrecision(2));
  return [line, text];
}

function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 0.1)));
  return [1, 2, 3, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

watch();
poll();
