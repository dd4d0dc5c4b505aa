// The page of one annotator: shows the next query, sends answers, asks once a second for news.
// An answer counts as saved when the server has said so, and it is sent once: after a lost
// connection the server's state tells whether it arrived.

import { draw } from "/scene.js";

const EVERY = 1000; // ms between two looks for news
const SETTLE = 300; // ms in which a new question takes no answer: a double click is no second one
const STAGE = 380; // ms of a stage
const REST = 1500; // ms at the end, before it plays again

const token = document.querySelector("meta[name=token]").content;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const part = (id) => document.getElementById(id);
const NAMES = { left: "left", right: "right", equal: "equal", skip: "skipped" };

let state = null; // as the server told it last
let shown = null; // number of the query on the page
let shownAt = 0; // when it came there
let busy = false; // an answer is on its way
let flagging = false; // the catastrophe keys are up
let clips = []; // drawings of left and right
let playing = !calm.matches;
let time = 0; // stages, fractional
let stages = 1;
let frame = null; // of the last animation step

async function call(path, body) {
  const headers = { "X-Thrifty-Token": token };
  const options = { headers, cache: "no-store", signal: AbortSignal.timeout(10000) };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const reply = await fetch(path, options);
  const told = await reply.json();
  if (told.reload) location.reload(); // the server was started anew
  return { ok: reply.ok, status: reply.status, told };
}

function alarm(text) {
  part("alarm").textContent = text;
  part("alarm").hidden = !text;
}

function say(text) {
  part("said").textContent = text;
}

async function look() {
  if (busy) return;
  try {
    const { ok, told } = await call("/api/state");
    if (busy) return; // older than the answer that is on its way
    alarm(ok ? "" : `The run's files cannot be used: ${told.error}`);
    if (ok) render(told);
  } catch {
    alarm("No connection to the server. Every answer that was confirmed is safe. "
      + "Start `thrifty label` again if you stopped it; this page goes on by itself.");
    enable(false);
  }
}

async function send(path, body, done) {
  if (busy) return;
  busy = true;
  enable(false);
  say("Saving …");
  try {
    const { ok, told } = await call(path, body);
    busy = false;
    if (ok) {
      alarm("");
      say(done);
      render(told);
    } else {
      say("");
      await look();
      alarm(`Not saved: ${told.error}.`);
    }
  } catch {
    busy = false;
    say("Not confirmed.");
    await look();
  }
}

function answer(choice) {
  if (shown === null || performance.now() - shownAt < SETTLE) return;
  const latency = Math.round(performance.now() - shownAt) / 1000;
  const side = choice.replace("catastrophe ", "");
  for (const id of ["left", "right"]) part(id).classList.toggle("chosen", side === id);
  send("/api/answer", { query: shown, answer: choice, latency }, `Saved: ${named(choice)}.`);
}

function undo() {
  if (state?.last) {
    send("/api/undo", { query: state.last.query }, `Taken back: ${named(state.last.answer)}.`);
  }
}

const named = (choice) => NAMES[choice] ?? choice.replace("catastrophe", "catastrophe,");

function enable(on) {
  for (const button of document.querySelectorAll("[data-answer], #catastrophe")) {
    button.disabled = !on || shown === null;
  }
  part("undo").disabled = !on || !state?.last;
}

function render(told) {
  state = told;
  const { asked, answered, query } = told;
  part("run").textContent = told.run;
  part("annotator").textContent = `annotator: ${told.annotator}`;
  part("count").textContent = `${answered} of ${asked} answered`;
  part("progress").max = Math.max(asked, 1);
  part("progress").value = answered;
  const open = asked - answered;
  document.title = (open ? `(${open}) ` : "") + "thrifty label";
  part("question").hidden = !query;
  part("pause-in-questions").hidden = !!query;
  if (!query) {
    shown = null;
    flag(false);
    const [title, hint] = part("pause-in-questions").children;
    title.textContent = told.finished ? "That was the last question." : "No question at the moment.";
    hint.textContent = told.finished
      ? "The run is finished and all its questions are answered. You can close this page."
      : "The learner goes on with the answers it has. Its next question appears here by itself.";
  } else if (query.number !== shown) {
    show(told.scene, query);
  }
  enable(true);
}

function show(scene, query) {
  shown = query.number;
  shownAt = performance.now();
  flag(false);
  clips = ["left", "right"].map((side) => {
    const drawing = draw(scene, query[side], side);
    const clip = part(side);
    clip.classList.remove("chosen");
    clip.querySelector(".stage").replaceChildren(drawing.root);
    clip.querySelector(".facts").textContent = drawing.facts;
    return { ...drawing, length: query[side].states.length, text: clip.querySelector(".now") };
  });
  part("legend").hidden = scene.kind !== "grid";
  stages = Math.max(...clips.map((clip) => clip.length));
  part("time").max = stages - 1;
  go(playing ? 0 : stages - 1);
}

function go(t) {
  time = t;
  part("time").value = Math.min(t, stages - 1);
  part("time").setAttribute("aria-valuetext", `stage ${Math.floor(Math.min(t, stages - 1)) + 1}`);
  for (const clip of clips) {
    const own = Math.min(t, clip.length - 1);
    clip.at(own);
    const text = clip.now(Math.floor(own));
    if (clip.text.textContent !== text) clip.text.textContent = text;
  }
}

function play(on) {
  playing = on;
  part("pause").firstElementChild.textContent = on ? "Pause" : "Play";
  if (on && time >= stages - 1) go(0);
}

function animate(now) {
  const passed = frame === null ? 0 : now - frame;
  frame = now;
  if (playing && shown !== null) {
    const next = time + passed / STAGE;
    go(next > stages - 1 + REST / STAGE ? 0 : next);
  }
  requestAnimationFrame(animate);
}

function flag(on) {
  flagging = on;
  part("flags").hidden = !on;
  part("answers").hidden = on;
  part("catastrophe").setAttribute("aria-expanded", String(on));
  if (on) part("flags").scrollIntoView({ block: "nearest" });
  part("catastrophe").firstElementChild.textContent = on ? "Back" : "Catastrophe";
}

const KEYS = {
  ArrowLeft: () => answer(flagging ? "catastrophe left" : "left"),
  ArrowRight: () => answer(flagging ? "catastrophe right" : "right"),
  e: () => flagging || answer("equal"),
  "=": () => flagging || answer("equal"),
  b: () => flagging && answer("catastrophe both"),
  s: () => answer("skip"),
  c: () => shown !== null && flag(!flagging),
  Escape: () => flag(false),
  u: undo,
  p: () => play(!playing),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target === part("time") && event.key.startsWith("Arrow")) return; // moves the slider
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => answer(button.dataset.answer));
}
part("undo").addEventListener("click", undo);
part("catastrophe").addEventListener("click", () => flag(!flagging));
part("pause").addEventListener("click", () => play(!playing));
part("time").addEventListener("input", () => {
  play(false);
  go(Number(part("time").value));
});
part("time").addEventListener("pointerup", () => part("time").blur()); // arrows answer again

play(playing);
enable(false);
requestAnimationFrame(animate);
(async () => {
  for (;;) {
    await look();
    await new Promise((wake) => setTimeout(wake, EVERY));
  }
})();
