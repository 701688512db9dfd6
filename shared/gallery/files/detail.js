// One picture, large, with its facts.

import { ApiError, facts, thumbnail } from "./api.js";
import { baseName, byId, bytes, copy, cosine, element, number, terms, time } from "./elements.js";

const LARGE = 1024;

const dialog = byId("detail");
const image = byId("large");

let shown = null;
let abort = new AbortController();

/** The name of the picture that is shown, or null. */
export const open = () => (dialog.open ? shown : null);

/** Call these with the picture: `more` for others like it, `folder` for a folder of it, `step` to go on, `closed`. */
export function listen({ more, folder, step, closed, link }) {
  byId("like").onclick = () => {
    dialog.close();
    more(shown);
  };
  byId("copy").onclick = ({ target }) => copy(link(shown), target);
  dialog.querySelector(".close").onclick = () => dialog.close();
  dialog.querySelector(".previous").onclick = () => step(-1);
  dialog.querySelector(".next").onclick = () => step(1);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    // The event comes later, when another picture may be open already.
    if (dialog.open) return;
    abort.abort();
    closed(shown);
  });
  byId("detail-folders").addEventListener("click", ({ target }) => {
    if (target.dataset.folder === undefined) return;
    dialog.close();
    folder(target.dataset.folder);
  });
}

/** Show a picture; `small` is the address of what the grid shows of it, if it does. */
export function show(item, small, { first, last }) {
  abort.abort();
  abort = new AbortController();
  shown = item.name;
  byId("detail-name").textContent = baseName(item.name);
  byId("detail-folders").replaceChildren(...folders(item.name));
  dialog.querySelector(".previous").hidden = first;
  dialog.querySelector(".next").hidden = last;
  showFacts(item);
  showImage(item, small, abort.signal);
  complete(item, abort.signal);
  if (!dialog.open) dialog.showModal();
}

function folders(name) {
  const parts = name.split("/").slice(0, -1);
  return parts.map((part, at) => {
    const folder = `${parts.slice(0, at + 1).join("/")}/`;
    return element("button", { type: "button", title: `Only ${folder}`, data: { folder } }, `${part || "/"} /`);
  });
}

function showFacts(item) {
  byId("detail-text").textContent = item.text ?? item.text_refused ?? "";
  const tokens = item.total_tokens ?? item.prompt_tokens;
  byId("facts").replaceChildren(
    ...terms([
      ["Score", item.score === undefined ? null : cosine(item.score, 4)],
      ["Pixels", item.width ? `${number(item.width)} × ${number(item.height)}` : null],
      ["Size", item.bytes === undefined ? null : bytes(item.bytes)],
      ["Type", item.media_type],
      ["Embedded", item.embedded_at ? time(item.embedded_at) : null],
      ["Model", item.model],
      ["Tokens", tokens === undefined || tokens === null ? null : number(tokens)],
      ["Text", item.text_refused ? "not embedded: the model takes none with a picture" : null],
      ["State", item.problem],
      ["Name", item.name.includes("/") ? item.name : null],
    ]),
  );
}

async function showImage(item, small, signal) {
  image.alt = item.text ?? "";
  image.classList.toggle("small", true);
  if (small) image.src = small;
  else image.removeAttribute("src");
  try {
    const url = await thumbnail(item.name, LARGE, signal);
    image.onload = () => {
      image.classList.remove("small");
      if (image.src === url) URL.revokeObjectURL(url);
    };
    image.src = url;
  } catch (error) {
    if (error instanceof ApiError) showFacts({ ...item, problem: error.message });
  }
}

/** The rest of the facts, which only the record has. */
async function complete(item, signal) {
  try {
    const record = await facts(item.name, signal);
    if (!signal.aborted) showFacts({ ...record, score: item.score });
  } catch (error) {
    if (error instanceof ApiError) showFacts({ ...item, problem: error.message });
  }
}
