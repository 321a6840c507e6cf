"""A page around a drawing: to move about in it, to search it, to step through it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence

__all__ = ["page"]


def page(title: str, svg: str, captions: Sequence[str] = ()) -> str:
    """HTML that stands alone: a drawing, a search, zoom, and buttons for its steps.

    Dragging moves the picture, the wheel and + and - zoom, 0 shows all of it. With
    steps, the arrow keys go to the next and the one before.
    """
    filled = {
        "title": html.escape(title),
        "steps": _STEPS if captions else "",
        # Inside a script, "</script" would end it.
        "captions": json.dumps(list(captions)).replace("<", "\\u003c"),
        "svg": svg,
    }
    # All at once: what is filled in may itself have braces.
    return re.sub(r"\{(title|steps|captions|svg)\}", lambda m: filled[m[1]], _PAGE)


_STEPS = """
<button id="back" title="step back (left arrow)">◀ back</button>
<input id="slider" type="range" min="0" value="0" aria-label="step">
<button id="next" title="next step (right arrow)">next ▶</button>
<span id="count"></span>"""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
html, body { margin: 0; height: 100%; font: 14px/1.4 system-ui, sans-serif; }
body { display: flex; flex-direction: column; color: #1c1e21; background: #fff; }
header { display: flex; flex-wrap: wrap; gap: 8px; align-items: center;
  padding: 6px 12px; border-bottom: 1px solid #d5d9de; }
button, input { font: inherit; padding: 3px 9px; }
svg { flex: 1; width: 100%; min-height: 0; touch-action: none; cursor: grab; }
#told { position: absolute; left: -9999px; }
.found > :not(title):first-of-type { stroke-width: 4; }
</style>
<header>{steps}
<button id="out" title="smaller (-)">−</button>
<button id="in" title="larger (+)">+</button>
<button id="all" title="all of it (0)">fit</button>
<input id="search" type="search" placeholder="find by name ( / )" aria-label="find">
<span id="hits" aria-live="polite"></span>
</header>
<div id="told" aria-live="polite"></div>
{svg}
<script>
const captions = {captions};
const $ = name => document.getElementById(name);
const svg = document.querySelector("svg");
const whole = svg.getAttribute("viewBox").split(" ").map(Number);
let view = [...whole];
svg.removeAttribute("width");
svg.removeAttribute("height");
const show = next => { view = next; svg.setAttribute("viewBox", view.join(" ")); };
function zoom(factor, x = view[0] + view[2] / 2, y = view[1] + view[3] / 2) {
  show([x - (x - view[0]) * factor, y - (y - view[1]) * factor,
        view[2] * factor, view[3] * factor]);
}
function place(event) {
  const p = new DOMPoint(event.clientX, event.clientY)
    .matrixTransform(svg.getScreenCTM().inverse());
  return [p.x, p.y];
}
svg.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, ...place(event));
}, { passive: false });
let held = null;
svg.addEventListener("pointerdown", event => { held = place(event); });
svg.addEventListener("pointermove", event => {
  if (!held) return;
  const [x, y] = place(event);
  show([view[0] - x + held[0], view[1] - y + held[1], view[2], view[3]]);
});
for (const end of ["pointerup", "pointerleave"])
  svg.addEventListener(end, () => { held = null; });
const fit = () => show([...whole]);
// A very long picture is shown from its start, at its own size.
if (whole[2] > 3 * innerWidth)
  show([0, Math.max(0, (whole[3] - innerHeight) / 2), innerWidth, innerHeight]);
$("in").onclick = () => zoom(1 / 1.4);
$("out").onclick = () => zoom(1.4);
$("all").onclick = fit;

const named = [...svg.querySelectorAll("[data-name]")];
let hits = [], current = -1;
function find(again) {
  const words = $("search").value.toLowerCase();
  if (!again) {
    named.forEach(g => g.classList.remove("found"));
    const inside = part => words && part.dataset.name.toLowerCase().includes(words);
    hits = named.filter(inside);
    hits.forEach(g => g.classList.add("found"));
    current = -1;
  }
  if (hits.length) {
    current = (current + 1) % hits.length;
    const b = hits[current].getBBox();
    const wide = Math.min(whole[2], 700), high = wide * whole[3] / whole[2];
    const tall = Math.max(high, 300);
    show([b.x + b.width / 2 - wide / 2, b.y + b.height / 2 - tall / 2, wide, tall]);
  }
  $("hits").textContent = !words ? "" : hits.length
    ? `${current + 1} of ${hits.length}` : "not here";
}
$("search").addEventListener("input", () => find(false));

const timed = [...svg.querySelectorAll("[data-first]")];
let step = 0;
function go(to) {
  if (!captions.length) return;
  step = Math.max(0, Math.min(captions.length - 1, to));
  for (const g of timed)
    g.style.display = +g.dataset.first <= step && step < +g.dataset.end
      ? "inline" : "none";
  $("slider").value = step;
  $("count").textContent = `${step + 1} of ${captions.length}`;
  $("told").textContent = captions[step];
}
if (captions.length) {
  $("slider").max = captions.length - 1;
  $("slider").oninput = () => go(+$("slider").value);
  $("next").onclick = () => go(step + 1);
  $("back").onclick = () => go(step - 1);
  go(0);
}
addEventListener("keydown", event => {
  if (event.target === $("search")) {
    if (event.key === "Enter") find(true);
    return;
  }
  if (event.target === $("slider") || event.ctrlKey || event.metaKey) return;
  const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (side && captions.length) go(step + side);
  else if (side) show([view[0] + side * view[2] / 10, ...view.slice(1)]);
  else if (event.key === "+") zoom(1 / 1.4);
  else if (event.key === "-") zoom(1.4);
  else if (event.key === "0") fit();
  else if (event.key === "/") $("search").focus();
  else return;
  event.preventDefault();
});
</script>
</html>
"""
