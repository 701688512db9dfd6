// How the app is: pictures, what waits, what failed and why, and an audit on request.

import { ask, forgetKey } from "./api.js";
import { byId, counted, element, number, showCommand, terms, time } from "./elements.js";

// What is under way is looked at more often than what only may be.
const BUSY = 2000;
const IDLE = 6000;

const dialog = byId("state");
let timer = 0;
let opened = new Set();
let findable = null;

/** Note how many pictures search finds. */
export const found = (images) => (findable = images);

/** Open the panel with its button; `reveal` is called with the name of a failed picture. */
export function listen(reveal) {
  byId("show-state").onclick = () => {
    dialog.showModal();
    refresh();
  };
  dialog.querySelector(".close").onclick = () => dialog.close();
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    clearTimeout(timer);
    opened = new Set();
    byId("codes").replaceChildren();
  });
  byId("start-audit").onclick = audit;
  byId("forget").onclick = () => {
    forgetKey();
    location.reload();
  };
  byId("codes").addEventListener("click", ({ target }) => {
    if (target.dataset.name === undefined) return;
    dialog.close();
    reveal(target.dataset.name);
  });
}

/** Read the state and show it, again and again while the panel is open; returns it, or null if the app says none. */
export async function refresh() {
  clearTimeout(timer);
  let status = null;
  try {
    status = await ask("status");
    show(status);
    byId("state-problem").hidden = true;
  } catch (error) {
    byId("state-problem").textContent = error.message;
    byId("state-problem").hidden = false;
  }
  if (dialog.open) timer = setTimeout(refresh, status && waiting(status) + isAuditing(status) ? BUSY : IDLE);
  return status;
}

/** The command that uploads a picture to the app's container. */
export function uploadCommand(status) {
  const url = new URL(status.images_url);
  const container = url.pathname.slice(url.pathname.lastIndexOf("/") + 1);
  const endpoint = status.images_url.slice(0, -container.length - 1);
  const account = /^([a-z0-9]+)\.blob\.core\.windows\.net$/.exec(url.hostname);
  const where = account ? `--account-name ${account[1]}` : `--blob-endpoint ${endpoint}`;
  return `az storage blob upload --auth-mode login ${where} --container-name ${container} --name picture.jpg --file picture.jpg`;
}

const waiting = (status) => Object.entries(status.queues)
  .filter(([queue]) => !queue.endsWith("-poison"))
  .reduce((sum, [, length]) => sum + (length ?? 0), 0);

const isAuditing = (status) => Boolean(status.running_audit && !status.running_audit.finished_at);

function show(status) {
  const { failures, progress } = status;
  const most = failures.complete ? "" : " or more";
  byId("failed").textContent = number(failures.total);
  byId("failed").hidden = !failures.total;
  byId("failed").title = `${counted(failures.total, "failure")}${most}`;
  byId("numbers").replaceChildren(
    ...terms([
      ["Can be found", findable === null ? null : number(findable)],
      ["Waiting", number(waiting(status))],
      ["Embedded", progress.per_minute ? `${number(Math.round(progress.per_minute))} a minute` : null],
      ["Done about", progress.done_at && time(progress.done_at)],
      ["Failed", number(failures.total) + most],
    ]),
  );
  showCodes(failures.by_code);
  showAudit(status);
  showCommand(dialog.querySelector(".command"), uploadCommand(status));
  const space = status.space === status.model ? "" : ` · ${status.space}`;
  byId("version").textContent = `${status.model}${space} · version ${status.version}`;
}

function showCodes(byCode) {
  const box = byId("codes");
  const codes = Object.entries(byCode).sort(([, one], [, other]) => other - one);
  if (!codes.length) {
    box.replaceChildren(element("p", {}, "None. Every picture that was uploaded has an embedding, or waits for it."));
    return;
  }
  const known = new Map([...box.querySelectorAll("details")].map((one) => [one.dataset.code, one]));
  box.replaceChildren(...codes.map(([code, count]) => {
    const details = known.get(code) ?? listOf(code);
    details.querySelector("summary b").textContent = number(count);
    return details;
  }));
}

/** The failures with a code, listed when they are asked for. */
function listOf(code) {
  const list = element("ul");
  const more = element("button", { type: "button", hidden: true }, "More");
  const words = code.replaceAll("_", " ");
  const heading = element("summary", {}, words[0].toUpperCase() + words.slice(1), " ", element("b"));
  const details = element("details", { data: { code } }, heading, list, more);
  let after;
  const load = async () => {
    more.disabled = true;
    try {
      const page = await ask("failures", { parameters: { code, top: 50, after } });
      list.append(...page.failures.map(failure));
      after = page.next;
    } catch (error) {
      list.append(element("li", { className: "problem" }, error.message));
    }
    more.disabled = false;
    more.hidden = !after;
  };
  more.onclick = load;
  details.addEventListener("toggle", () => {
    if (!details.open || opened.has(code)) return;
    opened.add(code);
    load();
  });
  return details;
}

function failure({ name, message, last_seen: seen }) {
  const button = element("button", { type: "button", data: { name } }, name);
  return element("li", {}, button, element("p", {}, message), element("time", { dateTime: seen }, time(seen)));
}

async function audit() {
  const button = byId("start-audit");
  button.disabled = true;
  byId("audit").textContent = "Comparing all pictures with their records …";
  try {
    await ask("reconcile", { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
    opened = new Set();
    byId("codes").replaceChildren();
    await refresh();
  } catch (error) {
    byId("audit").textContent = error.message;
  }
  button.disabled = false;
}

function showAudit({ running_audit: running, last_audit: last }) {
  const text = byId("audit");
  if (running && !running.finished_at) {
    text.textContent = `Under way: ${counted(running.images, "picture")} compared, ${number(running.requested)} asked for.`;
  } else if (last) {
    const found = last.requested ? `${number(last.requested)} asked for again` : "nothing to do";
    const pictures = `${number(last.current)} of ${counted(last.images, "picture")} current`;
    text.textContent = `${time(last.finished_at ?? last.started_at)}: ${pictures}, ${found}.`;
  } else {
    text.textContent = "None yet. It compares all pictures with their records, and asks for what is missing.";
  }
}
