// The widgets of a page, which has no kernel: models and views from the state that the page carries, links between them
// in the browser. It stands for @jupyter-widgets/html-manager's embed-amd.js, which brings JupyterLab's output area, an
// editor, a schema checker and the widgets of ipywidgets 7 along: 0.9 MB gzipped in place of 0.1 MB.
import { ManagerBase } from "@jupyter-widgets/base-manager";
import * as base from "@jupyter-widgets/base";
import * as controls from "@jupyter-widgets/controls";
import { MessageLoop } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import "@lumino/widgets/style/index.css";
import "@jupyter-widgets/controls/css/widgets-base.css";
import "@jupyter-widgets/controls/css/labvariables.css";

const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
const MODULES = { "@jupyter-widgets/base": base, "@jupyter-widgets/controls": controls };

class PageManager extends ManagerBase {
  async loadClass(name, module, version) {
    const found = MODULES[module]?.[name];
    if (found) return found;
    const what = module === "@jupyter-widgets/output" ? "Output widgets" : `${name} of ${module} ${version}`;
    throw new Error(`${what} can't be shown in this book's pages: tools/widgets/page.js has ipywidgets' own controls only.`);
  }

  // There is no kernel to speak to.
  async _get_comm_info() {
    return {};
  }
  async _create_comm() {
    const nothing = () => {};
    return { on_close: nothing, on_msg: nothing, close: nothing };
  }

  // Descriptions are plain text, whatever they allow.
  inline_sanitize(source) {
    const box = document.createElement("span");
    box.textContent = source;
    return box.innerHTML;
  }
}

/** Put each view of the page that this state knows in its place, before the script that names it. */
async function render(state) {
  const manager = new PageManager();
  const models = await manager.set_state(state);
  const shown = [...document.querySelectorAll(VIEW)].map(async (place) => {
    const { model_id } = JSON.parse(place.textContent);
    const model = models.find((one) => one.model_id === model_id);
    if (!model) return;
    const box = document.createElement("div");
    box.className = "widget-subarea";
    place.before(box);
    const view = await manager.create_view(model);
    Widget.attach(view.luminoWidget, box);
    addEventListener("resize", () => MessageLoop.postMessage(view.luminoWidget, Widget.ResizeMessage.UnknownSize));
  });
  await Promise.all(shown);
}

const style = document.createElement("link");
style.rel = "stylesheet";
style.href = new URL("widgets.css", document.currentScript.src);
document.head.append(style);

// By then the stylesheet is there too, and MathJax, which labels may need.
addEventListener("load", () => {
  for (const state of document.querySelectorAll(STATE)) render(JSON.parse(state.textContent));
});
