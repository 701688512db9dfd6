// The gallery: the newest pictures, or those that a search finds, with one of them open or none. The address says which.

import { ApiError, ask, forgetKey, hasKey, keepKey } from "./api.js";
import * as detail from "./detail.js";
import { byId, counted, element, number, showCommand } from "./elements.js";
import { Grid } from "./grid.js";
import * as question from "./question.js";
import * as state from "./state.js";

const PAGE = 50;
// News are asked for this often while there may be some, and less often once nothing has happened for a while.
const EAGER = 2000;
const PATIENT = 10_000;
const EAGER_FOR = 120_000;
// What is embedded at the same time may become known a little later.
const OVERLAP = 60_000;
const SLOW = 1500;
const MOST_RETRIES = 5;
const STATE_EVERY = 30_000;

const grid = new Grid(byId("grid"), { open, more });
// Pictures that were searched for: an address cannot hold them.
const files = new Map();

let current = { text: "", picture: null, like: "", prefix: "" };
let next = null;
let loading = null;
let lastEvent = Date.now();
let news = [];

const isSearch = ({ text, picture, like }) => Boolean(text || picture || like);

// The address

function linkTo({ text, like, prefix }, name = null) {
  const parts = Object.entries({ q: text, like, prefix, picture: name }).filter(([, value]) => value);
  const hash = new URLSearchParams(parts).toString();
  return location.pathname + location.search + (hash ? `#${hash}` : "");
}

/** What the address asks for. A key behind # is kept, and taken out of the address and the history. */
function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  if (said.has("key")) {
    keepKey(said.get("key"));
    said.delete("key");
    history.replaceState(null, "", location.pathname + location.search + (said.size ? `#${said}` : ""));
  }
  const picture = files.get(history.state?.file) ?? null;
  const asked = { text: said.get("q") ?? "", picture, like: said.get("like") ?? "", prefix: said.get("prefix") ?? "" };
  return { asked, name: said.get("picture") };
}

/** Ask a new question, which becomes a step in the history. */
function askFor(asked) {
  const file = asked.picture ? files.size + 1 : null;
  if (file) files.set(file, asked.picture);
  history.pushState({ file }, "", linkTo(asked));
  start(asked);
}

function follow() {
  const { asked, name } = readAddress();
  question.fill(asked, grid.small(asked.like));
  if (name) detail.show({ name }, grid.small(name), { first: true, last: true });
  return start(asked);
}

// Pages

async function start(asked) {
  loading?.abort();
  loading = new AbortController();
  const { signal } = loading;
  current = asked;
  next = null;
  news = [];
  lastEvent = Date.now();
  byId("news").hidden = byId("empty").hidden = byId("notice").hidden = true;
  scrollTo(0, 0);
  document.title = asked.text ? `${asked.text} – Gallery` : "Gallery";
  const done = announce(isSearch(asked) ? "Searching" : "Loading");
  try {
    const page = await patiently(() => ask(...request(asked, null, signal)), signal);
    if (signal.aborted) return;
    enter(false);
    grid.replace(page.results);
    next = page.next;
    summarize(page);
  } catch (error) {
    if (!signal.aborted) fail(error, () => start(asked));
  } finally {
    done();
  }
}

async function more() {
  if (!next || loading?.more) return;
  const { signal } = loading;
  loading.more = true;
  try {
    const page = await patiently(() => ask(...request(current, next, signal)), signal);
    if (signal.aborted) return;
    next = page.next;
    loading.more = false;
    grid.append(page.results);
  } catch (error) {
    if (!signal.aborted) fail(error, () => {
      loading.more = false;
      more();
    });
  }
}

/** The request of a page: words and stored pictures as JSON, a picture as it is. */
function request({ text, picture, like, prefix }, after, signal) {
  const rest = Object.fromEntries(Object.entries({ text, prefix, after }).filter(([, value]) => value));
  if (picture) {
    const headers = { "content-type": picture.type || "application/octet-stream" };
    return ["search", { method: "POST", parameters: { ...rest, top: PAGE }, body: picture, headers, signal }];
  }
  if (!text && !like) return ["images", { parameters: { ...rest, top: PAGE }, signal }];
  const body = JSON.stringify(like ? { like, prefix, top: PAGE, after } : { ...rest, top: PAGE });
  return ["search", { method: "POST", body, headers: { "content-type": "application/json" }, signal }];
}

/** The result of `work`, tried again for as long as the app says when to. */
async function patiently(work, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ApiError) || !error.retryAfter || tries > MOST_RETRIES || signal.aborted) throw error;
      summary(`${error.message} Trying again …`);
      await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
    }
  }
}

// What is said

function summary(text) {
  byId("summary").textContent = text;
}

/** Say that an answer is coming; returns what ends that. */
function announce(doing) {
  const coming = byId("coming");
  document.body.classList.add("busy");
  const shimmer = setTimeout(() => {
    grid.replace([]);
    coming.hidden = false;
    summary(`${doing} …`);
  }, 250);
  const slow = setTimeout(() => summary(`${doing} … An app that has been idle takes a moment to start.`), SLOW);
  return () => {
    clearTimeout(shimmer);
    clearTimeout(slow);
    coming.hidden = true;
    document.body.classList.remove("busy");
  };
}

function summarize({ index }) {
  state.found(index.images);
  const among = current.prefix ? ` in ${current.prefix}` : "";
  const shown = grid.items.length;
  if (!index.images) {
    summary("");
    state.refresh().then((status) => status && showCommand(byId("empty").querySelector(".command"), state.uploadCommand(status)));
    byId("empty").hidden = false;
  } else if (!shown) {
    summary(`None of ${counted(index.images, "picture")}${among} is found.`);
  } else if (isSearch(current)) {
    summary(`The nearest of ${counted(index.images, "picture")}${among}, best first`);
  } else {
    summary(among ? `Pictures${among}, the newest first` : `${counted(index.images, "picture")}, the newest first`);
  }
}

/** Say what went wrong and what to do: another key, or the same again. */
function fail(error, again) {
  summary("");
  if (error.status === 401 || error.status === 403) {
    grid.replace([]);
    enter(true, hasKey() ? error.message : "", error.canSignIn);
    return;
  }
  const button = element("button", { type: "button" }, "Try again");
  button.onclick = () => {
    byId("notice").hidden = true;
    again();
  };
  notice(error.message, error.status >= 400 && error.status < 500 && error.status !== 429 ? null : button);
  if (!(error instanceof ApiError)) throw error;
}

function notice(text, button = null) {
  const close = element("button", { type: "button", className: "close", ariaLabel: "Dismiss" }, "×");
  close.onclick = () => (byId("notice").hidden = true);
  byId("notice").replaceChildren(...[element("p", {}, text), button, close].filter(Boolean));
  byId("notice").hidden = false;
}

// The key

function enter(isAsked, problem = "", canSignIn = false) {
  document.body.classList.toggle("locked", isAsked);
  byId("enter").hidden = !isAsked;
  document.querySelector(".bar").hidden = isAsked;
  if (!isAsked) return;
  byId("key-problem").textContent = problem;
  byId("key-problem").hidden = !problem;
  byId("sign-in").hidden = !canSignIn;
  forgetKey();
  byId("key").value = "";
  byId("key").focus();
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value);
  follow();
});

// One picture

function open(at) {
  const item = grid.items[at];
  if (!detail.open()) history.pushState({ ...history.state, opened: true }, "", linkTo(current, item.name));
  else history.replaceState(history.state, "", linkTo(current, item.name));
  detail.show(item, grid.small(item.name), { first: at === 0, last: at === grid.items.length - 1 });
}

const position = (name) => grid.items.findIndex((item) => item.name === name);

detail.listen({
  more: (name) => {
    const asked = { text: "", picture: null, like: name, prefix: byId("prefix").value };
    question.fill(asked, grid.small(name));
    askFor(asked);
  },
  folder: (prefix) => {
    question.fill({ ...current, prefix }, grid.small(current.like));
    askFor({ ...current, prefix });
  },
  step: (by) => {
    const at = position(detail.open()) + by;
    if (at >= 0 && at < grid.items.length) open(at);
  },
  closed: (name) => {
    if (new URLSearchParams(location.hash.slice(1)).has("picture")) {
      if (history.state?.opened) history.back();
      else history.replaceState(history.state, "", linkTo(current));
    }
    if (position(name) >= 0) grid.focus(position(name));
  },
  link: (name) => new URL(linkTo({}, name), location.href).href,
});

// News

async function look() {
  const idle = Date.now() - lastEvent > EAGER_FOR;
  setTimeout(look, idle ? PATIENT : EAGER);
  if (document.hidden || document.body.classList.contains("locked") || isSearch(current) || loading?.signal.aborted) return;
  const { signal } = loading;
  const newest = grid.items[0]?.embedded_at;
  const since = newest && new Date(new Date(newest).getTime() - OVERLAP).toISOString();
  try {
    const page = await ask("images", { parameters: { prefix: current.prefix, since, top: PAGE }, signal });
    const known = new Map(grid.items.slice(0, 500).map((item) => [item.name, item.embedded_at]));
    news = page.results.filter((item) => known.get(item.name) !== item.embedded_at);
    if (!news.length || signal.aborted || byId("coming").hidden === false) return;
    lastEvent = Date.now();
    if (scrollY < 100) showNews(page);
    else {
      byId("news").textContent = `${counted(news.length, "new picture")} ↑`;
      byId("news").hidden = false;
    }
  } catch (error) {
    // The next look may do better, and whoever asks for something is told.
    if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
  }
}

function showNews(page = null) {
  byId("news").hidden = byId("empty").hidden = true;
  grid.prepend(news);
  news = [];
  if (page) summarize(page);
  state.refresh();
}

byId("news").onclick = () => {
  scrollTo(0, 0);
  showNews();
};

setInterval(() => {
  if (!document.hidden && !document.body.classList.contains("locked") && Date.now() - lastEvent < EAGER_FOR) state.refresh();
}, STATE_EVERY);

// Everything else that happens

question.listen(askFor, notice);
state.listen((name) => {
  history.pushState({ opened: true }, "", linkTo(current, name));
  detail.show({ name }, grid.small(name), { first: true, last: true });
});
document.querySelector(".brand").addEventListener("click", (event) => {
  event.preventDefault();
  question.fill({});
  askFor({ text: "", picture: null, like: "", prefix: "" });
});
addEventListener("popstate", () => {
  const { asked, name } = readAddress();
  if (name === null && detail.open()) byId("detail").close();
  const same = ["text", "picture", "like", "prefix"].every((part) => asked[part] === current[part]);
  if (!same || name) follow();
});
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input");
  if (event.key === "/" && !isTyping && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    byId("words").focus();
  }
});
for (const kind of ["focus", "pointerdown", "visibilitychange"]) addEventListener(kind, () => (lastEvent = Date.now()));

await follow();
setTimeout(look, EAGER);
if (!document.body.classList.contains("locked")) state.refresh();
