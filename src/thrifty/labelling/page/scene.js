// What a clip looks like: a map with a walker, or a strip of states and actions.
// A drawing is {root, at(t), now(i), facts}: its element, how to show time t (stages, fractional),
// the text for stage i, and what happened in words.

const SVG = "http://www.w3.org/2000/svg";
const CELL = 40;
const WAYS = { "1,0": "up", "0,1": "right", "-1,0": "down", "0,-1": "left" };

function shape(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

export function draw(scene, clip, side) {
  const fits = scene.kind === "grid" && clip.states.every((s) => s < scene.rows * scene.columns);
  return fits ? map(scene, clip, side) : strip(clip);
}

function strip(clip) {
  const root = document.createElement("ol");
  root.className = "steps";
  const items = clip.states.map((s, i) => {
    const item = document.createElement("li");
    item.textContent = `state ${s} · action ${clip.actions[i]}`;
    root.append(item);
    return item;
  });
  const last = items.length - 1;
  return {
    root,
    at(t) {
      const here = Math.min(Math.floor(t), last);
      items.forEach((item, i) => { item.className = i < here ? "past" : i === here ? "here" : ""; });
      const item = items[here];  // scrolls the strip alone, never the page
      root.scrollTop = item.offsetTop - root.offsetTop - root.clientHeight / 2;
    },
    now: (i) => `Stage ${i + 1} of ${items.length}`,
    facts: `${items.length} stages, from state ${clip.states[0]} to state ${clip.states[last]}.`,
  };
}

function map(scene, clip, side) {
  const { rows, columns } = scene;
  const kinds = new Map();
  for (const kind of ["goal", "lava", "rim"]) for (const s of scene[kind]) kinds.set(s, kind);
  const x = (s) => (s % columns + 0.5) * CELL;
  const y = (s) => (rows - Math.floor(s / columns) - 0.5) * CELL;
  const root = document.createElementNS(SVG, "svg");
  root.setAttribute("viewBox", `-1 -1 ${columns * CELL + 2} ${rows * CELL + 2}`);
  root.setAttribute("role", "img");

  const wet = shape("pattern", {
    id: `wet-${side}`, width: 8, height: 8, patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)",
  }, shape("defs", {}, root));
  shape("line", { class: "wet", x1: 0, y1: 0, x2: 0, y2: 8 }, wet);
  for (let s = 0; s < rows * columns; s++) {
    const kind = kinds.get(s) ?? "";
    const box = { x: x(s) - CELL / 2, y: y(s) - CELL / 2, width: CELL, height: CELL };
    shape("rect", { class: `cell ${kind}`, ...box }, root);
    if (kind === "rim") shape("rect", { fill: `url(#wet-${side})`, ...box }, root);
    const mark = s === scene.start ? "S" : { goal: "G", lava: "≈" }[kind];
    if (mark) {
      const aside = kind === "lava" ? 0 : CELL * 0.3; // letters stand beside the paths
      const place = { class: `mark ${kind}`, x: x(s) - aside, y: y(s) + aside };
      shape("text", place, root).textContent = mark;
    }
  }
  const points = (states) => states.map((s) => `${x(s)},${y(s)}`).join(" ");
  shape("polyline", { class: "ahead", points: points(clip.states) }, root);
  const trail = shape("polyline", { class: "trail" }, root);
  const walker = shape("g", {}, root);
  shape("circle", { class: "walker", r: 10 }, walker);
  const heading = shape("path", { class: "heading", d: "M-4,0 H4 M1,-3.5 L4.5,0 L1,3.5" }, walker);

  const last = clip.states.length - 1;
  const ends = (s) => kinds.get(s) === "goal" || kinds.get(s) === "lava";
  const found = clip.states.findIndex(ends);
  const facts = tell(clip, kinds, found);
  root.setAttribute("aria-label", facts);
  return {
    root,
    at(t) {
      const here = Math.min(Math.floor(t), last);
      const part = Math.min(t - here, 1);
      const [from, to] = [clip.states[here], clip.states[Math.min(here + 1, last)]];
      const [px, py] = [x(from) + (x(to) - x(from)) * part, y(from) + (y(to) - y(from)) * part];
      trail.setAttribute("points", `${points(clip.states.slice(0, here + 1))} ${px},${py}`);
      const [up, right] = scene.moves[clip.actions[here]] ?? [0, 0];
      const turn = Math.atan2(-up, right) * 180 / Math.PI;
      walker.setAttribute("transform", `translate(${px},${py}) rotate(${turn})`);
      heading.setAttribute("visibility", ends(from) ? "hidden" : "visible");
    },
    now(i) {
      const way = WAYS[String(scene.moves[clip.actions[i]])] ?? `action ${clip.actions[i]}`;
      const doing = ends(clip.states[i]) ? `in the ${kinds.get(clip.states[i])}` : `tries ${way}`;
      return `Stage ${i + 1} of ${last + 1}: ${doing}`;
    },
    facts,
  };
}

function tell(clip, kinds, found) {
  const n = clip.states.length;
  if (found < 0) return `Reaches neither goal nor lava in ${n} stages.`;
  const kind = kinds.get(clip.states[found]);
  const verb = kind === "goal" ? "Reaches the goal" : "Falls into the lava";
  return `${verb} at stage ${found + 1}: there for ${n - found} of ${n} stages.`;
}
