// The page of `harness explore`: one moment of a recording, chosen by how many events have happened.
// All state that a link must carry is in the URL's fragment; everything shown comes from the server.
import { html, render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor.js";

const RESOURCES = ["services", "endpointslices", "nodes", "pods", "markers"];
const ROW = 24; // pixels of a table row
const PAUSE = 250; // ms between two looks at a source that grows
const PAGE = 60; // rows asked for at once
const DEFAULTS = { at: "", service: "", tab: "endpoints", filter: "", mode: "nftables", node: "", from: "", to: "", measured: "" };

const fetched = async (path, parameters, signal) => {
  const answer = await fetch(`/api/${path}?${new URLSearchParams(parameters)}`, { signal });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
};

const clock = (ns) => {
  const seconds = ns / 1e9;
  const minutes = Math.floor(seconds / 60);
  return minutes ? `${minutes}m${(seconds - minutes * 60).toFixed(3).padStart(6, "0")}s` : `${seconds.toFixed(3)}s`;
};

const fromFragment = () => ({ ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) });

const toFragment = (chosen) => {
  const kept = Object.entries(chosen).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(kept)}`;
};

const place = document.getElementById("page");
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
const useAnswer = (path, parameters, quiet = false) => {
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

const bars = (density) => {
  const most = Math.max(1, ...density.map((row) => Object.values(row).reduce((a, b) => a + b, 0)));
  const width = 1000 / density.length;
  return density.flatMap((row, i) => {
    let top = 70;
    return RESOURCES.filter((name) => row[name]).map((name) => {
      const height = Math.max(1, (row[name] / most) * 64);
      top -= height;
      return html`<rect class=${name} x=${i * width} y=${top} width=${Math.max(1, width - 0.6)} height=${height} />`;
    });
  });
};

const short = (seconds) => (seconds >= 0.9995 ? `${seconds.toFixed(3)} s` : `${Number((seconds * 1e3).toPrecision(3))} ms`);
const FASTEST = 1e-4; // seconds, at the bottom of the lane

/** Dots for changes, bars for intervals; the higher, the slower, on a logarithmic scale. */
const Lane = ({ convergence, x, now }) => {
  const { points, stretches, step_seconds: step } = convergence;
  const slowest = Math.max(FASTEST * 10, ...points.map((each) => each.seconds ?? 0), ...stretches.map((each) => each.seconds));
  const drawn = useMemo(() => {
    const y = (seconds) => 45 - (42 * Math.log(Math.max(seconds, FASTEST) / FASTEST)) / Math.log(slowest / FASTEST);
    const path = (list, at) => list.map((each) => `M${x(each.at_seconds).toFixed(1)} ${at(each).toFixed(1)}h0`).join("");
    return html`${stretches.map((each) => html`<rect class="stretch" x=${x(each.at_seconds)} y=${y(each.seconds)}
        width=${x(each.at_seconds + step) - x(each.at_seconds)} height=${48 - y(each.seconds)} />`)}
      <path class="dots" d=${path(points.filter((each) => each.seconds !== null), (each) => y(each.seconds))} />
      <path class="dots never" d=${path(points.filter((each) => each.seconds === null), () => 3)} />`;
  }, [convergence, x]);
  const never = points.filter((each) => each.seconds === null).length;
  return html`<svg class="lane" viewBox="0 0 1000 48" preserveAspectRatio="none" role="img"
    aria-label=${`Convergence over time: up to ${short(slowest)}${never ? `, ${never} changes were never followed` : ""}`}>
    ${drawn}<line class="cursor" x1=${x(now)} x2=${x(now)} y1="0" y2="48" vector-effect="non-scaling-stroke" /></svg>
    <p class="note">Convergence: ${points.length ? "a dot is a change" : "a bar is the slowest change of an interval"},
      from ${short(FASTEST)} below to ${short(slowest)} above, logarithmic${never ? "; red: never followed" : ""}</p>`;
};

/** Of a source that grows: the newest event is shown until another one is chosen. */
const Live = ({ live, at, set, ended }) => html`<button aria-pressed=${String(live)} disabled=${Boolean(ended)}
  onClick=${() => set({ at: live ? String(at) : "live" })}>● Live</button>
  ${ended && html`<span class="error" role="alert">${ended}</span>`}`;

const Timeline = ({ overview, at, moment, go, convergence, live, set }) => {
  const { density, duration_ns: duration, events, run } = overview;
  const x = useCallback((seconds) => (duration ? Math.min(1000, (seconds * 1e12) / duration) : 0), [duration]);
  const drawn = useMemo(() => bars(density), [density]);
  const click = async (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const seconds = (((event.clientX - box.left) / box.width) * duration) / 1e9;
    go((await fetched("index", { position: `${seconds.toFixed(6)}s` })).at);
  };
  const worst = run && Math.max(1, ...run.lost.map(([, count]) => count));
  const now = moment?.event ? moment.event.t_ns / 1e9 : 0;
  return html`<section class="timeline" aria-label="Timeline">
    <svg viewBox="0 0 1000 72" preserveAspectRatio="none" onClick=${click} role="img" aria-label="Events over time">
      ${run && run.faults.map((fault) => html`<rect class="fault" x=${x(fault.began)} y="0" height="72"
        width=${Math.max(2, x(fault.ended) - x(fault.began))}><title>${fault.name}: ${fault.targets.join(", ")};
        ${fault.lost} lost</title></rect>`)}
      ${drawn}
      ${run && run.lost.map(([second, count]) => html`<rect class="lost" x=${x(second)} y="0" width="2"
        height=${(count / worst) * 20}><title>${count} requests lost in second ${second}</title></rect>`)}
      <line class="cursor" x1=${x(now)} x2=${x(now)} y1="0" y2="72" vector-effect="non-scaling-stroke" />
    </svg>
    ${convergence && html`<${Lane} ...${{ convergence, x, now }} />`}
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
      <a href=${`/api/state?at=${at}`} download=${`state-${at}.json`}>State as JSON</a>
    </div>
    <div class="legend">${RESOURCES.filter((name) => density.some((row) => row[name])).map((name) => html`<span>
      <svg viewBox="0 0 10 10" aria-hidden="true"><rect class=${name} width="10" height="10" /></svg> ${name}</span>`)}
      ${run && html`<span><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="lost" width="10" height="10" /></svg>
        lost requests; shaded: faults (verdict ${run.verdict === null ? "unknown" : String(run.verdict)})</span>`}
    </div>
  </section>`;
};

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

/** What may be longer than its panel: the keyboard can reach and scroll it, and it has a name. */
const scrolls = (name) => ({ class: "scroll", tabindex: "0", role: "group", "aria-label": name });

const value = (found) => (found === undefined ? "–" : typeof found === "string" ? found : JSON.stringify(found));

const PARTS = { pacing: "minSyncPeriod", queue: "behind a running sync", work: "compute and apply" };

const Followed = ({ points }) => points.map((each) => html`<p>${each.where || "In the node's rules"}
  ${each.seconds === null ? html` <span class="bad">never</span>` : html` <strong>${short(each.seconds)}</strong> later`}
  ${each.parts && html`<span class="note">: ${Object.entries(PARTS).map(([part, words]) => `${short(each.parts[part])} ${words}`)
    .join(", ")}</span>`}</p>`);

const SHOWN = 20;

const Convergence = ({ overview, convergence, error, waits, set, go, asked, newer }) => {
  const never = Infinity;
  const slowest = useMemo(() => [...(convergence?.points ?? [])]
    .sort((a, b) => (b.seconds ?? never) - (a.seconds ?? never)).slice(0, SHOWN), [convergence]);
  return html`<h2>Convergence</h2>
    ${overview.measures && (!asked || newer) && html`<p><button onClick=${() => set({ measured: String(overview.events) })}>
      ${asked ? "Measure again" : "Measure"} by a replay in memory</button></p>
      <p class="note">Replays the recording once, in a process of its own; 10,000 Services take some seconds.</p>`}
    ${waits && asked && html`<p class="note" role="status">Replaying…</p>`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${convergence && html`<p class="note">Source: ${convergence.source}.</p>`}
    ${slowest.length > 0 && html`<div ...${scrolls("Slowest changes")}><table aria-label="Slowest changes"><thead><tr>
      <th class="number">took</th><th>at</th><th>change</th></tr></thead><tbody>${slowest.map((each) => html`<tr>
      <td class=${`number ${each.seconds === null ? "bad" : ""}`}>${each.seconds === null ? "never" : short(each.seconds)}</td>
      <td>${clock(each.at_seconds * 1e9)}</td>
      <td><button onClick=${() => go(each.count)}>${each.where || `seq ${each.seq}`}</button></td></tr>`)}</tbody></table></div>`}
    ${convergence && !slowest.length && !convergence.stretches.length && html`<p class="note">No change sent anything to the rules.</p>`}`;
};

const Change = ({ moment, choose, convergence }) => {
  const event = moment?.event;
  if (!event) return html`<p class="note">Nothing has happened yet.</p>`;
  const points = convergence ? convergence.points.filter((each) => each.count === moment.at) : [];
  return html`<p><strong>${event.type}</strong> ${event.resource} ${event.object}
      <span class="note"> seq ${event.seq} at ${clock(event.t_ns)}</span></p>
    <${Followed} points=${points} />
    ${event.service && html`<p><button onClick=${() => choose(event.service)}>Show Service ${event.service}</button></p>`}
    ${event.changes.map((each) => html`<p class="note">${each.change} ${each.resource} ${each.namespace}/${each.name}</p>
      ${each.fields.length > 0 && html`<div ...${scrolls("Changed fields")}><table><thead><tr><th>field</th><th>before</th><th>after</th></tr>
        </thead><tbody>${each.fields.map((field) => html`<tr><td class="mono">${field.path}</td>
          <td class="mono bad">${value(field.before)}</td><td class="mono good">${value(field.after)}</td></tr>`)}
        </tbody></table></div>`}`)}`;
};

const Events = ({ at, go }) => {
  const { found } = useAnswer("events", { at });
  const box = useRef(null);
  useEffect(() => {
    const row = box.current.querySelector("[aria-current]");
    if (row) box.current.scrollTop = row.offsetTop - box.current.clientHeight / 2;
  }, [found]);
  const rows = useMemo(() => (found ?? []).map((row) => html`<tr key=${row.count} class=${row.count === at ? "chosen" : ""}
      aria-current=${row.count === at ? "true" : undefined}><td class="number">${row.seq}</td><td>${clock(row.t_ns)}</td>
      <td>${row.type}</td><td><button onClick=${() => go(row.count)}>${row.resource} ${row.object}</button></td></tr>`), [found, at, go]);
  return html`<div ref=${box} ...${scrolls("Events around")}><table aria-label="Events around this moment"><thead><tr><th class="number">seq</th><th>time</th>
    <th>type</th><th>object</th></tr></thead><tbody>${rows}</tbody></table></div>`;
};

const Services = ({ at, chosen, set, choose }) => {
  const [first, setFirst] = useState(0);
  const box = useRef(null);
  const parameters = { at, filter: chosen.filter, first, count: PAGE };
  const { found } = useAnswer("services", parameters);
  const scroll = (event) => setFirst(Math.max(0, Math.floor(event.target.scrollTop / ROW) - 20));
  const filter = (event) => {
    box.current.scrollTop = 0;
    setFirst(0);
    set({ filter: event.target.value });
  };
  const below = found ? Math.max(0, found.total - found.first - found.rows.length) : 0;
  const rows = useMemo(() => (found?.rows ?? []).map((row) => {
    const name = `${row.namespace}/${row.name}`;
    return html`<tr key=${name} style=${`height:${ROW}px`} class=${name === chosen.service ? "chosen" : ""}>
      <td>${row.namespace}</td><td><button onClick=${() => choose(name)}>${row.name}</button></td><td>${row.type}</td>
      <td>${row.cluster_ip}</td><td>${row.ports}</td>
      <td class=${`number ${row.ready ? "good" : "bad"}`}>${row.ready}</td><td class="number">${row.all}</td></tr>`;
  }), [found, chosen.service, choose]);
  return html`<div class="bar"><input class="grow" type="search" value=${chosen.filter} onInput=${filter}
      placeholder="namespace/name" aria-label="Filter Services by name" />
      <output>${found ? `${found.total} Services` : ""}</output></div>
    <div ref=${box} onScroll=${scroll} ...${scrolls("Services")}><table aria-rowcount=${found?.total ?? 0}>
      <thead><tr><th>namespace</th><th>name</th><th>type</th><th>cluster IP</th><th>ports</th>
        <th class="number">ready</th><th class="number">all</th></tr></thead>
      <tbody>${found && found.first > 0 && html`<tr style=${`height:${found.first * ROW}px`} aria-hidden="true"></tr>`}
      ${rows}
      ${below > 0 && html`<tr style=${`height:${below * ROW}px`} aria-hidden="true"></tr>`}</tbody></table></div>`;
};

const yes = (flag) => html`<span class=${flag ? "good" : "bad"}>${flag ? "yes" : "no"}</span>`;

const Endpoints = ({ found }) => {
  if (!found) return html`<p class="note">This Service does not exist at this moment.</p>`;
  return html`<div ...${scrolls("Endpoints of the Service")}><table aria-label="Endpoints"><thead><tr><th>address</th><th>ready</th><th>serving</th><th>terminating</th>
    <th>node</th><th>zone</th><th>pod</th><th>slice</th></tr></thead><tbody>${found.endpoints.map((end) => html`<tr>
    <td class="mono">${end.addresses}</td><td>${yes(end.ready)}</td><td>${yes(end.serving)}</td>
    <td>${end.terminating ? "yes" : "no"}</td><td>${end.node}</td><td>${end.zone}</td><td>${end.target}</td>
    <td>${end.slice}</td></tr>`)}</tbody></table></div>
    ${found.endpoints.length === 0 && html`<p class="note">No endpoints.</p>`}`;
};

const Mode = ({ overview, chosen, set }) => html`<div class="bar">
  <label>Mode <select value=${chosen.mode} onChange=${(e) => set({ mode: e.target.value })}>
    ${overview.modes.map((mode) => html`<option>${mode}</option>`)}</select></label>
  <label>Node <input size="14" value=${chosen.node} placeholder="the first" aria-label="Node whose rules to compute"
    onChange=${(e) => set({ node: e.target.value })} /></label></div>`;

const lines = (list) => html`<div ...${scrolls("Changed rules")}><pre>${list.map((line) => html`<span class=${line.kind}>${
  { added: "+ ", removed: "- ", same: "  ", gap: "" }[line.kind]}${line.text}</span>`)}</pre></div>`;

const Rules = ({ overview, at, chosen, set }) => {
  const { found, error } = useAnswer("rules", { at, service: chosen.service, mode: chosen.mode, node: chosen.node });
  return html`<${Mode} overview=${overview} chosen=${chosen} set=${set} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${found && html`<h2>What this event changes</h2>
      ${found.changes.length ? lines(found.changes) : html`<p class="note">Nothing of this Service's rules.</p>`}
      <details><summary>All rules, as if it were the only Service</summary>
        <div ...${scrolls("All rules")}><pre>${found.text}</pre></div></details>`}`;
};

const Trace = ({ overview, at, chosen, set }) => {
  const service = chosen.service && `svc:${chosen.service}`;
  const asked = chosen.from && chosen.to ? { at, from: chosen.from, to: chosen.to, mode: chosen.mode, node: chosen.node } : null;
  const { found, error } = useAnswer("trace", asked);
  const submit = (event) => {
    event.preventDefault();
    set({ from: event.target.elements.from.value, to: event.target.elements.to.value });
  };
  return html`<${Mode} overview=${overview} chosen=${chosen} set=${set} />
    <form class="bar" onSubmit=${submit}>
      <label>From <input name="from" defaultValue=${chosen.from || "external:203.0.113.7"} required /></label>
      <label>To <input name="to" key=${service} size="30" defaultValue=${chosen.to || service} required /></label>
      <button>Trace</button></form>
    <p class="note">From pod:NAMESPACE/NAME, node or external:IP; to svc:NAMESPACE/NAME:PORT or IP:PORT[/udp|/sctp].</p>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${found && html`<p class="mono">${found.packet}, on ${found.node}</p>
      <ol class="path">${found.steps.map((step) => html`<li class="mono">${step}</li>`)}
      <li class="end">${found.outcome.outcome}${found.outcome.endpoints.length ? `: ${found.outcome.endpoints.join(", ")}` : ""}${
        found.outcome.masquerade ? " (source address replaced)" : ""}</li></ol>`}`;
};

const TABS = [["endpoints", "Endpoints"], ["rules", "Rules"], ["trace", "Trace"]];

const Details = ({ overview, at, chosen, set }) => {
  const { found } = useAnswer("service", chosen.service ? { at, service: chosen.service } : null);
  const shown = { endpoints: Endpoints, rules: Rules, trace: Trace }[chosen.tab] ?? Endpoints;
  const keys = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = TABS.findIndex(([name]) => name === chosen.tab);
    const next = (now + step + TABS.length) % TABS.length;
    set({ tab: TABS[next][0] });
    event.currentTarget.children[next].focus();
    event.stopPropagation();
  };
  return html`<h2>${chosen.service || "No Service chosen"}</h2>
    <div role="tablist" aria-label="Details" onKeyDown=${keys}>${TABS.map(([name, label]) => html`<button role="tab"
      id=${`tab-${name}`} aria-controls="details" aria-selected=${String(chosen.tab === name)}
      tabindex=${chosen.tab === name ? 0 : -1} onClick=${() => set({ tab: name })}>${label}</button>`)}</div>
    <div role="tabpanel" id="details" aria-labelledby=${`tab-${chosen.tab}`}>
      ${chosen.service || chosen.tab === "trace"
        ? html`<${shown} ...${{ overview, at, chosen, set, found }} />`
        : html`<p class="note">Choose one in the table, or by the event that changed it.</p>`}</div>`;
};

/** The overview, asked for again whenever a followed source has grown. */
const useGrowth = (first) => {
  const [overview, setOverview] = useState(first);
  useEffect(() => {
    if (!first.follows) return undefined;
    const abort = new AbortController();
    const follow = async (events) => {
      const { events: now, ended } = await fetched("grown", { events }, abort.signal);
      if (now > events || ended) setOverview({ ...(await fetched("overview", {}, abort.signal)), ended });
      if (!ended) setTimeout(() => abort.signal.aborted || begin(now), PAUSE);
    };
    const begin = (events) => follow(events).catch((error) => error.name !== "AbortError"
      && setOverview((before) => ({ ...before, ended: `The server does not answer: ${error.message}` })));
    begin(first.events);
    return () => abort.abort();
  }, []);
  return overview;
};

const Page = ({ first }) => {
  const overview = useGrowth(first);
  const [chosen, setChosen] = useState(fromFragment);
  const live = overview.follows && (chosen.at === "live" || chosen.at === "");
  const at = Math.min(overview.events, live ? overview.events : chosen.at === "" ? overview.initial : Number(chosen.at) || 0);
  const set = useCallback((changes) => setChosen((before) => ({ ...before, ...changes })), []);
  const go = useCallback((to) => set({ at: String(Math.max(0, Math.min(overview.events, to))) }), [overview]);
  const choose = useCallback((service) => set({ service, to: "" }), []);
  const { found: moment } = useAnswer("moment", { at });
  const asked = !overview.measures || chosen.measured !== "";
  const convergence = useAnswer("convergence", asked ? { mode: chosen.mode, node: chosen.node, events: chosen.measured } : null, true);

  useEffect(() => history.replaceState(null, "", toFragment(chosen)), [chosen]);
  useEffect(() => {
    const changed = () => setChosen(fromFragment());
    const keys = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, [role=tablist]")
        || event.target.matches(".scroll")) return;
      const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 20, PageUp: -20 }[event.key];
      if (step) { event.preventDefault(); go(at + step); }
    };
    addEventListener("hashchange", changed);
    addEventListener("keydown", keys);
    return () => { removeEventListener("hashchange", changed); removeEventListener("keydown", keys); };
  }, [at, go]);

  const counts = Object.entries(moment?.counts ?? {}).map(([name, count]) => `${count} ${name}`).join(", ");
  return html`<header><h1>${overview.path}</h1>
      <p class="note">${counts || "empty"} · ← and → step through events, Page keys by 20 · the address of this page is this moment</p></header>
    <${Timeline} overview=${overview} at=${at} moment=${moment} go=${go} convergence=${convergence.found}
      live=${live} set=${set} />
    <main class="panels">
      <section class="panel" aria-label="Event"><h2>Event</h2><${Change} moment=${moment} choose=${choose} convergence=${convergence.found} /></section>
      <section class="panel" aria-label="Events around"><h2>Around it</h2><${Events} at=${at} go=${go} /></section>
      <section class="panel" aria-label="Services"><h2>Services</h2>
        <${Services} at=${at} chosen=${chosen} set=${set} choose=${choose} /></section>
      <section class="panel" aria-label="Details"><${Details} overview=${overview} at=${at} chosen=${chosen} set=${set} /></section>
      <section class="panel" aria-label="Convergence"><${Convergence} overview=${overview} convergence=${convergence.found}
        error=${convergence.error} waits=${convergence.waits} asked=${asked} newer=${overview.events > Number(chosen.measured)}
        set=${set} go=${go} /></section>
    </main>`;
};

fetched("overview", {})
  .then((overview) => {
    document.title = `${overview.path} · explore`;
    place.replaceChildren();
    render(html`<${Page} first=${overview} />`, place);
  })
  .catch((error) => { place.textContent = `The server does not answer: ${error.message}`; });
