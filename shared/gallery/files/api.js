// The routes of the app. The key goes into a header, and stays in this tab's sessionStorage.

const BASE = new URL(".", document.baseURI.split("#")[0]);
const KEY = "function-key";
// What a path may do to such names on its way, a query string does not.
const RISKY = /[\\%+]|\/\/|^\/|[./]$/;

/** An error of the app, or of the way to it (`status` 0). `retryAfter` is in seconds, if it says when to ask again. */
export class ApiError extends Error {
  constructor(message, status, code = "", { retryAfter = 0, canSignIn = false } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter, canSignIn });
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const forgetKey = () => sessionStorage.removeItem(KEY);
export const keepKey = (key) => sessionStorage.setItem(KEY, key.trim());

/** Ask a route; the answer is its JSON. */
export async function ask(route, options) {
  return (await request(route, options)).json();
}

/** The address of a picture in memory: the thumbnail of an image with at most `size` pixels a side. */
export async function thumbnail(name, size, signal) {
  const path = RISKY.test(name) ? "" : name.split("/").map(encodeURIComponent).join("/");
  const answer = await request(`thumbnails/${path}`, { parameters: { name: path ? undefined : name, size }, signal });
  return URL.createObjectURL(await answer.blob());
}

/** The record of an image, without its vector. */
export const facts = (name, signal) => ask("records/", { parameters: { name, embedding: false }, signal });

async function request(route, { parameters = {}, signal, ...options } = {}) {
  const url = new URL(route, BASE);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = new Headers(options.headers);
  if (hasKey()) headers.set("x-functions-key", sessionStorage.getItem(KEY));
  let answer;
  try {
    answer = await fetch(url, { ...options, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The app does not answer. Is it running, and are you online?", 0);
  }
  if (!answer.ok) throw await problem(answer);
  return answer;
}

async function problem(answer) {
  const body = await answer.json().catch(() => null);
  const { code = "", message } = body?.error ?? {};
  const retryAfter = Number(answer.headers.get("retry-after")) || 0;
  // App Service says so where people sign in; the host of functions, which wants a key, does not.
  const canSignIn = (answer.headers.get("www-authenticate") ?? "").startsWith("Bearer");
  return new ApiError(message ?? words(answer.status), answer.status, code, { retryAfter, canSignIn });
}

function words(status) {
  if (status === 401 || status === 403) return "The app does not know this key.";
  if (status === 413) return "The picture is too large: 20 MB is the most.";
  return `The app answered ${status} without saying why. Its log does.`;
}
