// The page of `harness explore`: one moment of a recording, chosen by how many events have happened.
// All state that a link must carry is in the URL's fragment; everything shown comes from the server.
import { html, render, useCallback, useEffect, useMemo, useRef, useState } from "./vendor.js";
import { clock, fetched, place, Saves, scrolls, short, useAnswer } from "./common.js";
import { Timeline } from "./timeline.js";

const ROW = 24; // pixels of a table row
const PAUSE = 250; // ms between two looks at a source that grows
const PAGE = 60; // rows asked for at once
const DEFAULTS = { at: "", service: "", tab: "endpoints", filter: "", mode: "nftables", node: "", from: "", to: "", measured: "" };

const fromFragment = () => ({ ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) });

const toFragment = (chosen) => {
  const kept = Object.entries(chosen).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(kept)}`;
};

const value = (found) => (found === undefined ? "–" : typeof found === "string" ? found : JSON.stringify(found));

const PARTS = { pacing: "minSyncPeriod", queue: "behind a running sync", work: "compute and apply" };

const Followed = ({ points }) => points.map((each) => html`<p>${each.where || "In the node's rules"}
  ${each.seconds === null ? html` <span class="bad">never</span>` : html` <strong>${short(each.seconds)}</strong> later`}
  ${each.parts && html`<span class="note">: ${Object.entries(PARTS).map(([part, words]) => `${short(each.parts[part])} ${words}`)
    .join(", ")}</span>`}</p>`);

const SHOWN = 20;

const Convergence = ({ overview, convergence, error, waits, set, go, asked, newer, view }) => {
  const never = Infinity;
  const slowest = useMemo(() => [...(convergence?.points ?? [])]
    .sort((a, b) => (b.seconds ?? never) - (a.seconds ?? never)).slice(0, SHOWN), [convergence]);
  return html`<h2>Convergence</h2>
    ${overview.measures && (!asked || newer) && html`<p><button onClick=${() => set({ measured: String(overview.events) })}>
      ${asked ? "Measure again" : "Measure"} by a replay in memory</button></p>
      <p class="note">Replays the recording once, in a process of its own; 10,000 Services take some seconds.</p>`}
    ${waits && asked && html`<p class="note" role="status">Replaying…</p>`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${convergence && html`<p class="note">Source: ${convergence.source}.</p>
      <${Saves} what="convergence" view=${view} files=${[["convergence.csv", "CSV"]]} />`}
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
  return html`<p><strong>${event.type}</strong> ${event.object}
      <span class="note"> seq ${event.seq} at ${clock(event.t_ns)}</span></p>
    <${Followed} points=${points} />
    ${event.service && html`<p><button onClick=${() => choose(event.service)}>Show Service ${event.service}</button></p>`}
    ${event.changes.map((each) => html`<p class="note">${each.change} ${each.resource} ${each.namespace}/${each.name}</p>
      ${each.fields.length > 0 && html`<div ...${scrolls("Changed fields")}><table><thead><tr><th>field</th><th>before</th><th>after</th></tr>
        </thead><tbody>${each.fields.map((field) => html`<tr><td class="mono">${field.path}</td>
          <td class="mono bad">${value(field.before)}</td><td class="mono good">${value(field.after)}</td></tr>`)}
        </tbody></table></div>`}`)}`;
};

const VERDICTS = { true: "passed", false: "failed", null: "unknown" };

const Run = ({ run, go }) => {
  const to = async (seconds) => go((await fetched("index", { position: `${seconds.toFixed(6)}s` })).at);
  return html`<h2>Chaos run</h2>
    <p>Verdict: <strong class=${run.verdict === null ? "" : run.verdict ? "good" : "bad"}>${VERDICTS[run.verdict]}</strong></p>
    <div ...${scrolls("Faults")}><table aria-label="Faults"><thead><tr><th>fault</th><th>from</th><th>until</th>
      <th class="number">lost</th><th>hit</th></tr></thead><tbody>${run.faults.map((each) => html`<tr>
      <td><button onClick=${() => to(each.began)}>${each.name}</button></td><td>${clock(each.began * 1e9)}</td>
      <td>${clock(each.ended * 1e9)}</td><td class="number">${each.lost}</td><td>${each.targets.join(", ")}</td></tr>`)}
    </tbody></table></div>`;
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
      <td>${row.type}</td><td><button onClick=${() => go(row.count)}>${row.object}</button></td></tr>`), [found, at, go]);
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
      <td>${row.namespace}</td><td><button onClick=${() => choose(name)}>${row.name}</button></td>
      <td class=${`number ${row.ready ? "good" : "bad"}`}>${row.ready}</td><td class="number">${row.all}</td>
      <td>${row.type}</td><td>${row.cluster_ip}</td><td>${row.ports}</td></tr>`;
  }), [found, chosen.service, choose]);
  return html`<div class="bar"><input class="grow" type="search" value=${chosen.filter} onInput=${filter}
      placeholder="namespace/name" aria-label="Filter Services by name" />
      <output>${found ? `${found.total} Services` : ""}</output></div>
    <${Saves} what="Services" view=${{ at, filter: chosen.filter }} files=${[["services.csv", "CSV", `services-${at}.csv`]]} />
    <div ref=${box} onScroll=${scroll} ...${scrolls("Services")}><table aria-rowcount=${found?.total ?? 0}>
      <thead><tr><th>namespace</th><th>name</th><th class="number">ready</th><th class="number">all</th>
        <th>type</th><th>cluster IP</th><th>ports</th></tr></thead>
      <tbody>${found && found.first > 0 && html`<tr style=${`height:${found.first * ROW}px`} aria-hidden="true"></tr>`}
      ${rows}
      ${below > 0 && html`<tr style=${`height:${below * ROW}px`} aria-hidden="true"></tr>`}</tbody></table></div>`;
};

const yes = (flag) => html`<span class=${flag ? "good" : "bad"}>${flag ? "yes" : "no"}</span>`;

const Endpoints = ({ found, at, chosen }) => {
  if (!found) return html`<p class="note">This Service does not exist at this moment.</p>`;
  const name = `${chosen.service.replace("/", "-")}-${at}`;
  return html`<${Saves} what="endpoints" view=${{ at, service: chosen.service }} files=${[["endpoints.csv", "CSV", `${name}.csv`],
      ["state.yaml", "YAML for kubectl apply", `${name}.yaml`]]} />
    <div ...${scrolls("Endpoints of the Service")}><table aria-label="Endpoints"><thead><tr><th>address</th><th>ready</th><th>serving</th><th>terminating</th>
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
  const view = { at, service: chosen.service, mode: chosen.mode, node: chosen.node };
  const { found, error } = useAnswer("rules", view);
  return html`<${Mode} overview=${overview} chosen=${chosen} set=${set} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${found && html`<${Saves} what="rules" view=${view} files=${[["before.txt", "before", `rules-${at}-before.txt`],
        ["after.txt", "after", `rules-${at}-after.txt`], ...(found.changes.length ? [["rules.diff", "diff", `rules-${at}.diff`]] : [])]} />
      <h2>What this event changes</h2>
      ${found.changes.length ? lines(found.changes) : html`<p class="note">Nothing of this Service's rules.</p>`}
      <details><summary>All rules, as if it were the only Service</summary>
        <div ...${scrolls("All rules")}><pre>${found.text}</pre></div></details>`}`;
};

/** Each rule once, with the elements of its map or set that a packet may match: alternatives, one for each endpoint. */
const path = (steps) => [...steps.reduce((rules, step) => {
  const [rule, element] = step.split("    ");
  return rules.set(rule, [...(rules.get(rule) ?? []), ...(element ? [element] : [])]);
}, new Map())];

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
    ${found && html`<${Saves} what="trace" view=${asked} files=${[["trace.txt", "text", `trace-${at}.txt`], ["trace.json", "JSON", `trace-${at}.json`]]} />
      <p class="mono">${found.packet}, on ${found.node}</p>
      <ol class="path">${path(found.steps).map(([rule, elements]) => html`<li class="mono"><span class="rule">${rule}</span>
        ${elements.map((each) => html`<span class="element">${each}</span>`)}</li>`)}
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
      ${overview.run && html`<section class="panel" aria-label="Chaos run"><${Run} run=${overview.run} go=${go} /></section>`}
      <section class="panel" aria-label="Event"><h2>Event</h2><${Change} moment=${moment} choose=${choose} convergence=${convergence.found} /></section>
      <section class="panel" aria-label="Events around"><h2>Around it</h2><${Events} at=${at} go=${go} /></section>
      <section class="panel" aria-label="Services"><h2>Services</h2>
        <${Services} at=${at} chosen=${chosen} set=${set} choose=${choose} /></section>
      <section class="panel" aria-label="Details"><${Details} overview=${overview} at=${at} chosen=${chosen} set=${set} /></section>
      <section class="panel" aria-label="Convergence"><${Convergence} overview=${overview} convergence=${convergence.found}
        view=${{ mode: chosen.mode, node: chosen.node }} error=${convergence.error} waits=${convergence.waits} asked=${asked} newer=${overview.events > Number(chosen.measured)}
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
