// Used by every part of the page: answers of the server, numbers as text, areas that scroll, links that save.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor.js";

export const fetched = async (path, parameters, signal) => {
  const answer = await fetch(`/api/${path}?${new URLSearchParams(parameters)}`, { signal });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
};

export const clock = (ns) => {
  const seconds = ns / 1e9;
  const minutes = Math.floor(seconds / 60);
  return minutes ? `${minutes}m${(seconds - minutes * 60).toFixed(3).padStart(6, "0")}s` : `${seconds.toFixed(3)}s`;
};

export const place = document.getElementById("page");
const awaited = new Set();
const NOTHING = { found: null, error: "", key: null };

/** Marks the page as busy, for assistive technology and for tests, while an answer is awaited. */
const useBusy = (busy) => {
  const self = useRef({}).current;
  const mark = (waits) => {
    awaited[waits ? "add" : "delete"](self);
    place.setAttribute("aria-busy", String(awaited.size > 0));
  };
  useLayoutEffect(() => mark(busy), [busy]);
  useLayoutEffect(() => () => mark(false), []);
};

/** What the server answers for these parameters: {found, error, waits}; the last answer stays until the next is there. */
export const useAnswer = (path, parameters, quiet = false) => {
  const [answer, setAnswer] = useState(NOTHING);
  const key = parameters && JSON.stringify(parameters);
  useBusy(!quiet && answer.key !== key);
  useEffect(() => {
    if (!key) return setAnswer(NOTHING);
    const abort = new AbortController();
    fetched(path, JSON.parse(key), abort.signal)
      .then((found) => setAnswer({ found, error: "", key }))
      .catch((error) => error.name !== "AbortError" && setAnswer({ found: null, error: error.message, key }));
    return () => abort.abort();
  }, [path, key]);
  return { ...answer, waits: answer.key !== key };
};

/** Seconds, in the unit that suits them. */
export const short = (seconds) => {
  const [unit, factor] = seconds >= 0.9995 ? ["s", 1] : seconds >= 1e-3 || !seconds ? ["ms", 1e3] : ["µs", 1e6];
  return `${unit === "s" ? seconds.toFixed(3) : Number((seconds * factor).toPrecision(3))} ${unit}`;
};

/** What may be longer than its panel: the keyboard can reach and scroll it, and it has a name. */
export const scrolls = (name) => ({ class: "scroll", tabindex: "0", role: "group", "aria-label": name });

/** Links that save a view: `files` are [name on the server, label, name of the file], `view` is its parameters. */
export const Saves = ({ what, files, view }) => html`<p class="saves">Save ${what}: ${files.map(([name, label, as]) => html`<a
  href=${`/save/${name}?${new URLSearchParams(view)}`} download=${as ?? name} aria-label=${`Save ${what}: ${label}`}>${label}</a> `)}</p>`;
