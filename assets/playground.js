// What all parts of the page share, as `window.gptj`: putting text on the page as text, saying numbers,
// the parts' news to each other, the views, and setting the controls. Loaded before any of them.
//
// News are events of the document, "gptj:" and a name:
//   status    the model and its streams, as the server tells them; also kept as gptj.status
//   controls  the values of all controls by name, whenever one changed; also kept as gptj.controls
//   record    one record of the request that the editor runs; "begin" has the text that was sent, the controls
//             it has other than the panel, and what the tree needs (assets/sessions.js)
//   written   the model's latest words as they now stand in the text, null where they do not
//   text      asks the editor to put this text in the place of its own, as one step; {text, words} where the
//             last words are a model's
//   replay    asks the editor to write anew what came after a prompt: {prompt, controls}
//   notice    asks the editor to show this sentence
//   take      asks the editor to put this completion in the place of the model's latest words
//   aside     asks the editor to say in a line what was put into its text, with an Undo: {message, controls},
//             the controls with the values that undoing gives back
//   open      asks the editor to put this node of the tree in the place of its text, as one step
//   view      the name of the view that is now shown
//   tree      the session's tree has changed
//   session   another session is open: gptj.session
//   keeping   why the open session is not kept as it should be, empty where it is
//   stored    another tab has kept or deleted a session

window.gptj = (() => {
  const VIEWS = ["write", "branches", "compare", "why", "about"];
  const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
  const root = document.documentElement;

  const number = (n) => Number(n).toLocaleString("en");

  function make(tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // A token as text in which spaces, line ends and what cannot be seen can be seen.
  function visible(text) {
    const node = make("bdi", "token");
    for (const part of text.split(/([\s\p{C}])/u)) {
      if (!part) continue;
      const unseen = /^[\s\p{C}]$/u.test(part);
      const code = `U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
      node.appendChild(make("span", unseen ? "unseen" : "", unseen ? (SIGNS[part] ?? code) : part));
    }
    return node;
  }

  function percent(logprob) {
    const value = 100 * Math.exp(logprob);
    return `${value >= 1 ? value.toFixed(1) : value >= 0.001 ? value.toPrecision(2) : value.toExponential(0)} %`;
  }

  // The tokens of a record with their fields named; gptj_demo/ui/tokens.py packs them.
  const readTokens = (packed) =>
    packed.map(([token_id, text, kind, length, logprob, sampled_logprob, rank, filtered_away, others]) => ({
      token_id,
      text,
      kind,
      length,
      logprob,
      sampled_logprob,
      rank,
      filtered_away,
      alternatives: others.map(([token_id, text, kind, logprob, sampled_logprob, removed_by]) => ({
        token_id,
        text,
        kind,
        logprob,
        sampled_logprob,
        removed_by,
      })),
    }));

  const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`gptj:${name}`, { detail }));
  const listen = (name, hear) => document.addEventListener(`gptj:${name}`, ({ detail }) => hear(detail));

  // The view stands in the address, so that the browser's Back leads back.
  function show(name, { push = true } = {}) {
    if (!VIEWS.includes(name) || root.dataset.view === name) return;
    root.dataset.view = name;
    if (push) history.pushState(null, "", name === "write" ? location.pathname + location.search : `#${name}`);
    markTab();
    tell("view", name);
  }

  function markTab() {
    for (const tab of document.querySelectorAll("[data-goes-to]")) {
      if (tab.dataset.goesTo === root.dataset.view) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
  }

  const viewInAddress = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "write");
  root.dataset.view = viewInAddress();
  for (const change of ["popstate", "hashchange"]) {
    window.addEventListener(change, () => show(viewInAddress(), { push: false }));
  }
  document.addEventListener("click", ({ target }) => {
    const tab = target.closest?.("[data-goes-to]");
    if (tab) show(tab.dataset.goesTo);
  });

  // "Skip to ..." leads past the tabs: to the text where there is one, else to the view.
  function skip() {
    const view = document.getElementById(`view-${root.dataset.view}`);
    const place = view?.querySelector("textarea") ?? view;
    if (place === view) view?.setAttribute("tabindex", "-1");
    place?.focus();
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(".skip")) return;
    event.preventDefault();
    skip();
  });

  // Gradio's accordions do not tell whether they are open.
  function tellOpenGroups() {
    for (const title of document.querySelectorAll("#controls .label-wrap")) {
      title.setAttribute("aria-expanded", String(title.classList.contains("open")));
    }
  }

  function watchGroups() {
    const controls = document.getElementById("controls");
    if (!controls || controls.dataset.watched) return;
    controls.dataset.watched = "true";
    tellOpenGroups();
    const changes = { subtree: true, childList: true, attributeFilter: ["class"] };
    new MutationObserver(tellOpenGroups).observe(controls, changes);
  }

  // Set the controls that `values` names; the others keep theirs. The editor's server part takes them from
  // here (`wanted`, in the order of the table), for Gradio's own state must change with the page's.
  // Resolves when the controls hold the values, or after a second.
  function useControls(values) {
    const have = () => Object.entries(values).every(([name, value]) => String(shared.controls[name]) === String(value));
    shared.wanted = { ...shared.controls, ...values };
    tell("use-controls");
    return new Promise((resolve) => {
      const done = () => {
        if (!have()) return;
        document.removeEventListener("gptj:controls", done);
        resolve();
      };
      document.addEventListener("gptj:controls", done);
      setTimeout(resolve, 1000);
      done();
    });
  }

  const shared = {
    make,
    visible,
    percent,
    number,
    plural: (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`,
    readTokens,
    signed: (n, digits) => n.toFixed(digits).replace("-", "−"),
    tell,
    listen,
    show,
    markTab,
    useControls,
    lastRun: () => ({ prompt: "", continuation: "" }), // the editor's, when it is there
    wanted: {},
    controls: {},
    defaults: {},
    status: null,
  };
  listen("controls", (values) => (shared.controls = values));
  listen("controls", watchGroups);
  listen("status", (status) => (shared.status = status));
  return shared;
})();
