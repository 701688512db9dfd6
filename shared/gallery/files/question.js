// What is searched for: words, a picture that is chosen, pasted or dropped anywhere, or both; or a stored picture.

import { baseName, byId } from "./elements.js";

const MOST_BYTES = 20 * 2 ** 20;

const words = byId("words");
const chip = byId("example");
const preview = chip.querySelector("img");
const label = chip.querySelector("span");

let picture = null;
let like = "";

/** What the form asks for now. */
export const asked = () => ({ text: words.value.trim(), picture, like, prefix: byId("prefix").value });

/** Put a question into the form, without asking it. `small` is the address of a preview, if there is one. */
export function fill({ text = "", picture: file = null, like: name = "", prefix = "" }, small = null) {
  words.value = text;
  byId("prefix").value = prefix;
  picture = file;
  like = name;
  if (preview.src.startsWith("blob:") && preview.dataset.own) URL.revokeObjectURL(preview.src);
  preview.hidden = true;
  preview.dataset.own = file ? "1" : "";
  chip.hidden = !file && !name;
  label.textContent = file ? file.name || "Picture" : baseName(name);
  words.placeholder = file ? "… and what else?" : name ? "Like this picture" : "Describe a picture, or drop one here";
  words.disabled = name !== "";
  if (file) small = URL.createObjectURL(file);
  if (small) preview.src = small;
}

/** Call `ask` with each new question, and `complain` with what cannot be one. */
export function listen(ask, complain) {
  // Not every browser can show every format that the app reads: the name has to do then.
  preview.onload = () => (preview.hidden = false);
  preview.onerror = () => (preview.hidden = true);
  byId("question").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(asked());
  });
  byId("prefix").addEventListener("change", () => ask(asked()));
  chip.querySelector("button").addEventListener("click", () => {
    fill({ ...asked(), picture: null, like: "" });
    words.focus();
    ask(asked());
  });
  words.addEventListener("search", () => words.value || ask(asked()));

  const take = (file) => {
    if (file.size > MOST_BYTES) {
      complain(`${file.name || "The picture"} has more than 20 MB, which is the most that a search takes.`);
      return;
    }
    fill({ ...asked(), picture: file, like: "" });
    ask(asked());
  };
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files.length) take(target.files[0]);
    target.value = "";
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  listenForDrops(take, complain);
}

function listenForDrops(take, complain) {
  const veil = byId("drop");
  addEventListener("dragover", (event) => {
    event.preventDefault();
    veil.hidden = !event.dataTransfer.types.includes("Files");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    veil.hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) take(file);
    else complain("Drop a file: other pages do not hand out theirs. Save the picture first, or copy and paste it.");
  });
}
