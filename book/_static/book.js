// What the theme and the widgets leave undone: names for controls, keys for boxes that scroll, math in widgets.
"use strict";

// The widgets typeset their labels by MathJax 2's interface; this book has MathJax 3.
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax?.startup || MathJax.Hub) return;
  const typeset = (element) => MathJax.startup.promise.then(() => MathJax.typesetPromise([element]));
  MathJax.Hub = { Queue: ([, , element]) => typeset(element) };
});

// A slider's handle, its number and the buttons of Play say nothing to a screen reader: name them after their label.
function nameControls(widget) {
  const label = widget.querySelector(":scope > .widget-label");
  if (label && label.title === "null") label.removeAttribute("title");
  const name = (label && label.textContent.trim()) || "value";
  for (const handle of widget.querySelectorAll(".noUi-handle")) handle.setAttribute("aria-label", name);
  for (const readout of widget.querySelectorAll(".widget-readout")) {
    readout.setAttribute("role", "textbox");
    readout.setAttribute("aria-label", name);
  }
  if (widget.classList.contains("widget-play")) {
    widget.querySelectorAll("button").forEach((button, index) => {
      button.setAttribute("aria-label", ["Play", "Stop", "Repeat"][index] || "Play");
    });
  }
  if (widget.classList.contains("widget-toggle-buttons")) {
    widget.setAttribute("role", "group");
    widget.setAttribute("aria-label", name);
    for (const button of widget.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.classList.contains("mod-active")));
    }
  }
}

// What scrolls sideways can be reached and scrolled by the keyboard.
const BOXES = "pre, div.math, mjx-container, .pst-scrollable-table-container, .output, .widget-subarea, .widget-box, .highlight";
function reachBoxes() {
  for (const box of document.querySelectorAll(`.bd-article :is(${BOXES})`)) {
    const style = getComputedStyle(box).overflowX;
    const scrolls = box.scrollWidth > box.clientWidth + 1 && (style === "auto" || style === "scroll");
    if (scrolls) box.tabIndex = 0;
  }
}

// Where a wide table of the class "stacks" does not fit, its cells stand below one another: each bears its column's name.
function nameCells(table) {
  const columns = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.children].forEach((cell, index) => { cell.dataset.column = columns[index]; });
  }
}

function tend() {
  document.querySelectorAll(".widget-play, .widget-slider, .widget-toggle-buttons").forEach(nameControls);
  reachBoxes();
}

document.addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector(".bd-article");
  if (!article) return;
  article.querySelectorAll("table.stacks").forEach(nameCells);
  let waiting = 0;
  const soon = () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(tend);
  };
  new MutationObserver(soon).observe(article, { childList: true, subtree: true, attributeFilter: ["class"] });
  addEventListener("resize", soon);
  addEventListener("load", soon);
  soon();
});
