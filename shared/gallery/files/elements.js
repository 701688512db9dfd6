// Elements and words. What comes from storage becomes text, never markup.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with properties, `data` attributes and children; strings among these become text. */
export function element(tag, { data = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, data);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** The terms of a description list, without those that have no value. */
export function terms(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return shown.map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value)));
}

/** A number as people write it. */
export const number = (value) => value.toLocaleString();

/** A cosine with so many decimals. */
export const cosine = (score, decimals) => score.toFixed(decimals).replace(/^-(0\.0+)$/, "$1");

/** So many of something. */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** A time, in the reader's own words. */
export const time = (value) =>
  new Date(value).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A size in bytes. */
export function bytes(size) {
  const units = ["bytes", "kB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(size, 1)) / 3));
  const value = size / 1000 ** power;
  return `${value.toLocaleString(undefined, { maximumFractionDigits: power && value < 100 ? 1 : 0 })} ${units[power]}`;
}

/** A name without its folders. */
export const baseName = (name) => name.slice(name.lastIndexOf("/") + 1) || name;

/** Copy a text, and let the button say so. */
export async function copy(text, button) {
  const words = button.dataset.words ??= button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => (button.textContent = words), 2000);
}

/** Show a command in its box, with a button that copies it; lines break between its options. */
export function showCommand(box, command) {
  const parts = command.split(/ (?=--)/).flatMap((part) => [element("span", {}, part), " "]);
  box.querySelector("code").replaceChildren(...parts);
  const button = box.querySelector("button");
  button.onclick = () => copy(command, button);
}
