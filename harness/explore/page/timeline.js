// The timeline: lanes of events, requests and convergence on one time axis, and the controls that move through it.
import { html, useCallback, useMemo, useState } from "./vendor.js";
import { clock, fetched, Saves, short } from "./common.js";
import { saveAsPng, saveAsSvg } from "./picture.js";

const RESOURCES = ["services", "endpointslices", "nodes", "pods", "markers"];
const FASTEST = 1e-4; // seconds, at the bottom of a logarithmic lane
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400]; // seconds between two ticks
const MOST_TICKS = 10;

const bars = (density, height) => {
  const most = Math.max(1, ...density.map((row) => Object.values(row).reduce((a, b) => a + b, 0)));
  const width = 1000 / density.length;
  return density.flatMap((row, i) => {
    let top = height - 2;
    return RESOURCES.filter((name) => row[name]).map((name) => {
      const tall = Math.max(1, (row[name] / most) * (height - 8));
      top -= tall;
      return html`<rect class=${name} x=${i * width} y=${top} width=${Math.max(1, width - 0.6)} height=${tall} />`;
    });
  });
};

/** Its height for a time in seconds: the higher, the slower, from FASTEST to `slowest`. */
const logarithmic = (seconds, slowest, height) =>
  height - 3 - ((height - 6) * Math.log(Math.max(seconds, FASTEST) / FASTEST)) / Math.log(slowest / FASTEST);

const key = (name) => html`<svg class="key" viewBox="0 0 10 10" aria-hidden="true"><rect class=${name} width="10" height="10" /></svg>`;

/** One lane: what it shows in words, and drawn between 0 and 1000; faults are shaded behind it. */
const Lane = ({ axis, height, name, caption, children }) => html`<figure class="lane">
  <figcaption>${caption}</figcaption>
  <svg class="drawn" viewBox=${`0 0 1000 ${height}`} style=${`height:${height}px`} preserveAspectRatio="none" onClick=${axis.click}
    role="img" aria-label=${name}>
    ${axis.faults.map((fault) => html`<rect class="fault" x=${axis.x(fault.began)} y="0" height=${height}
      width=${Math.max(2, axis.x(fault.ended) - axis.x(fault.began))}><title>${[fault.name, ...fault.targets].join(" ")}: ${fault.lost} lost</title></rect>`)}
    ${children}
    <line class="cursor" x1=${axis.x(axis.now)} x2=${axis.x(axis.now)} y1="0" y2=${height} vector-effect="non-scaling-stroke" />
  </svg></figure>`;

const Events = ({ density, axis }) => {
  const drawn = useMemo(() => bars(density, 60), [density]);
  const seen = RESOURCES.filter((name) => density.some((row) => row[name]));
  const caption = html`<strong>Events</strong>${seen.map((name) => html`<span>${key(name)} ${name}</span>`)}
    ${axis.faults.length > 0 && html`<span>${key("fault")} a fault</span>`}`;
  return html`<${Lane} axis=${axis} height="60" name="Events over time" caption=${caption}>${drawn}<//>`;
};

const Requests = ({ run, axis }) => {
  const { requests, step_seconds: step, incomplete } = run;
  const most = Math.max(1, ...requests.map((each) => each.answered + each.lost));
  const slowest = Math.max(FASTEST * 10, ...requests.map((each) => (each.p99_ms ?? 0) / 1e3));
  const drawn = useMemo(() => {
    const wide = Math.max(1, axis.x(step) - axis.x(0) - 0.6);
    const rect = (each, name, from, count) => count > 0 && html`<rect class=${name} x=${axis.x(each.at)} width=${wide}
      y=${46 - (42 * (from + count)) / most} height=${Math.max(name === "lost" ? 2 : 0.5, (42 * count) / most)} />`;
    const line = requests.map((each, i) => each.p99_ms === null ? ""
      : `${i && requests[i - 1].p99_ms !== null ? "L" : "M"}${axis.x(each.at + step / 2).toFixed(1)} ${
        logarithmic(each.p99_ms / 1e3, slowest, 48).toFixed(1)}`).join("");
    return html`${requests.map((each) => rect(each, "answered", 0, each.answered))}
      ${requests.map((each) => rect(each, "lost", each.answered, each.lost))}<path class="latency" d=${line} />`;
  }, [run, axis.x]);
  const caption = html`<strong>Requests</strong><span>${key("answered")} answered</span><span>${key("lost")} lost;
    up to ${Math.round(most / step)} per second</span><span>${key("slow")} p99, up to ${short(slowest)}, logarithmic</span>
    ${incomplete.length > 0 && html`<span class="bad">incomplete: ${incomplete.join(", ")}</span>`}`;
  const lost = requests.reduce((sum, each) => sum + each.lost, 0);
  return html`<${Lane} axis=${axis} height="48" caption=${caption} name=${`Requests over time: up to ${Math.round(most / step)
    } per second, ${lost} lost, p99 up to ${short(slowest)}`}>${drawn}<//>`;
};

/** Dots for changes, bars for intervals; the higher, the slower. */
const Convergence = ({ convergence, axis }) => {
  const { points, stretches, step_seconds: step } = convergence;
  const slowest = Math.max(FASTEST * 10, ...points.map((each) => each.seconds ?? 0), ...stretches.map((each) => each.seconds));
  const never = points.filter((each) => each.seconds === null).length;
  const drawn = useMemo(() => {
    const y = (seconds) => logarithmic(seconds, slowest, 48);
    const path = (list, at) => list.map((each) => `M${axis.x(each.at_seconds).toFixed(1)} ${at(each).toFixed(1)}h0`).join("");
    return html`${stretches.map((each) => html`<rect class="stretch" x=${axis.x(each.at_seconds)} y=${y(each.seconds)}
        width=${axis.x(each.at_seconds + step) - axis.x(each.at_seconds)} height=${48 - y(each.seconds)} />`)}
      <path class="dots" d=${path(points.filter((each) => each.seconds !== null), (each) => y(each.seconds))} />
      <path class="dots never" d=${path(points.filter((each) => each.seconds === null), () => 3)} />`;
  }, [convergence, axis.x]);
  const caption = html`<strong>Convergence</strong><span>${key("stretch")} ${points.length ? "a change" : "the slowest of an interval"},
    up to ${short(slowest)}, logarithmic</span>${never > 0 && html`<span>${key("lost")} never followed</span>`}`;
  return html`<${Lane} axis=${axis} height="48" caption=${caption} name=${`Convergence over time: up to ${short(slowest)}${
    never ? `, ${never} changes were never followed` : ""}`}>${drawn}<//>`;
};

/** 90 as 1m30s. */
const whole = (seconds) => [[3600, "h"], [60, "m"], [1, "s"]].map(([unit, letter], i, units) => {
  const count = Math.floor((i ? seconds % units[i - 1][0] : seconds) / unit);
  return count ? `${count}${letter}` : "";
}).join("") || "0s";

const Ticks = ({ seconds, x }) => {
  const step = STEPS.find((each) => seconds / each <= MOST_TICKS) ?? Math.ceil(seconds / MOST_TICKS);
  const times = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, n) => n * step);
  return html`<div class="ticks" aria-hidden="true">${times.map((time) => html`<span style=${`left:${x(time) / 10}%`}>${whole(time)}</span>`)}</div>`;
};

/** What was going on in a chaos run at that moment. */
const Meanwhile = ({ run, now }) => {
  const here = run.requests.find((each) => each.at <= now && now < each.at + run.step_seconds);
  const faults = run.faults.filter((each) => each.began <= now && now <= each.ended);
  const said = here ? `${here.answered} requests answered, ${here.lost} lost${
    here.p99_ms === null ? "" : `, p99 ${short(here.p99_ms / 1e3)}`}, in ${run.step_seconds === 1 ? "this second" : `these ${run.step_seconds} s`}` : "no requests";
  const names = faults.map((each) => each.name + (each.targets.length ? ` (${each.targets.join(", ")})` : "")).join(", ");
  return html`<p class="note">At ${clock(now * 1e9)}: ${said}; ${names ? `in force: ${names}` : "no fault in force"}</p>`;
};

/** Of a source that grows: the newest event is shown until another one is chosen. */
const Live = ({ live, at, set, ended }) => html`<button aria-pressed=${String(live)} disabled=${Boolean(ended)}
  onClick=${() => set({ at: live ? String(at) : "live" })}>● Live</button>
  ${ended && html`<span class="error" role="alert">${ended}</span>`}`;

const Jump = ({ go }) => {
  const [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    try {
      go((await fetched("index", { position: event.target.elements.position.value })).at);
      setError("");
    } catch (problem) {
      setError(problem.message);
    }
  };
  return html`<form class="bar" onSubmit=${submit}>
    <input name="position" size="10" placeholder="seq or 90s" aria-label="Go to seq or time" required />
    <button>Go</button>${error && html`<span class="error" role="alert">${error}</span>`}
  </form>`;
};

const picture = (save) => (event) => save(event.target.closest(".timeline"), document.title);

export const Timeline = ({ overview, at, moment, go, convergence, live, set }) => {
  const { density, duration_ns: duration, events, run } = overview;
  const x = useCallback((seconds) => (duration ? Math.min(1000, (seconds * 1e12) / duration) : 0), [duration]);
  const click = async (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const seconds = (((event.clientX - box.left) / box.width) * duration) / 1e9;
    go((await fetched("index", { position: `${seconds.toFixed(6)}s` })).at);
  };
  const now = moment?.event ? moment.event.t_ns / 1e9 : 0;
  const axis = { x, click, now, faults: run?.faults ?? [] };
  return html`<section class="timeline" aria-label="Timeline">
    <${Events} density=${density} axis=${axis} />
    ${run && html`<${Requests} run=${run} axis=${axis} />`}
    ${convergence && html`<${Convergence} ...${{ convergence, axis }} />`}
    <${Ticks} seconds=${duration / 1e9} x=${x} />
    ${run && html`<${Meanwhile} run=${run} now=${now} />`}
    <input type="range" min="0" max=${events} value=${at} aria-label="Event"
      aria-valuetext=${moment ? `${at} of ${events} events` : ""} onInput=${(e) => go(Number(e.target.value))} />
    <div class="bar">
      <button onClick=${() => go(0)} disabled=${at === 0} aria-label="First event">|◀</button>
      <button onClick=${() => go(at - 1)} disabled=${at === 0} aria-label="Previous event">◀</button>
      <button onClick=${() => go(at + 1)} disabled=${at === events} aria-label="Next event">▶</button>
      <button onClick=${() => go(events)} disabled=${at === events} aria-label="Last event">▶|</button>
      <${Jump} go=${go} />
      ${overview.follows && html`<${Live} live=${live} at=${at} set=${set} ended=${overview.ended} />`}
      <output class="grow">${at} of ${events} events${moment?.event ? ` · ${clock(moment.event.t_ns)}` : ""}</output>
    </div>
    <div class="saving">
      <${Saves} what="state" view=${{ at }} files=${[["state.json", "JSON", `state-${at}.json`],
        ["state.yaml", "YAML for kubectl apply", `state-${at}.yaml`]]} />
      <${Saves} what="timeline" view=${{}} files=${[["events.csv", "events (CSV)"], ...(run ? [["requests.csv", "requests (CSV)"]] : [])]} />
      <p class="saves">Save picture: <button onClick=${picture(saveAsSvg)}>SVG</button> <button onClick=${picture(saveAsPng)}>PNG</button></p>
    </div>
  </section>`;
};
