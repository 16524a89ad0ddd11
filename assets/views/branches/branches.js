// The Branches view: the open session's tree as an outline, the chosen node beside it, and the sessions
// above. Rows are of one height, and only those that can be seen are on the page. Text of any origin is
// put in as text only.

import { download, make, visible } from "../../components/dom.js";
import { show, shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { number, plural, signed } from "../../core/format.js";
import { sessions } from "../../core/sessions.js";
import { state, useControls } from "../../core/state.js";
import { PERSON, pieces } from "../../core/text.js";

const ROW = 34; // pixels, as in branches.css
const SPARE_ROWS = 8; // above and below those that can be seen
const SHOWN_CHARACTERS = 160;
const KEPT_CHARACTERS = 24;
const DOUBLE_CLICK_MS = 500;
const LEAST_FOLDED = 3;
const SVG = "http://www.w3.org/2000/svg";

export function mount({ element, props }) {
  const view = element.querySelector(".branches");
  const $ = (selector) => view.querySelector(selector);

  const box = $(".tree");
  const room = box.appendChild(make("div", "tree-room"));
  room.setAttribute("role", "presentation");

  const KINDS = {
    write: "Written by you",
    edit: "Written by you, in the place of other words",
    generate: "Written by the model",
    retry: "Written by the model, another try",
    alternative: "Written by the model, from another token",
  };
  const ENDS = { length: "length", stop: "stop", eos: "end", cancelled: "stopped", error: "failed" };

  let rows = []; // of what is shown: {node, level, lines, joint, up, down, isOpen} or {fold: nodes, ...}
  let chosen = null; // the id of the chosen node
  const closed = new Set(); // ids of branchings whose branches are hidden
  const unfolded = new Set(); // ids of the first node of a run that is shown whole

  const tree = () => sessions.current.tree;
  const isShown = () => shownView() === "branches";
  const isWriting = () => tree().growing.length > 0;
  const branches = (n) => `${number(n)} ${n === 1 ? "branch" : "branches"}`;
  const oneLine = (text) => text.replace(/\s+/g, " ");
  const own = (node) => pieces.text(node.pieces);

  // ---- what stands on which row

  // A node's only child stands below it; several stand one level further in, each at the head of its own run.
  function layOut() {
    rows = [];
    const waiting = [];
    const branch = (ids, level, lines) => {
      ids.toReversed().forEach((id, i) => waiting.push({ id, level, lines, isLast: i === 0 }));
    };
    branch(tree().childrenOf(tree().root.id), 0, []);
    while (waiting.length) {
      const { id, level, lines, isLast } = waiting.pop();
      const run = [tree().node(id)];
      for (let next = tree().childrenOf(id); next.length === 1; next = tree().childrenOf(next[0])) {
        run.push(tree().node(next[0]));
      }
      const after = level ? [...lines, !isLast] : lines;
      fold(run).forEach((entry, i, all) => {
        const isHead = i === 0;
        rows.push({
          ...entry,
          level,
          lines: isHead ? lines : after,
          joint: isHead && level ? (isLast ? "elbow" : "tee") : null,
          up: !isHead,
          down: i < all.length - 1,
        });
      });
      const last = rows[rows.length - 1];
      const children = tree().childrenOf(last.node.id);
      if (!children.length) continue;
      last.isOpen = !closed.has(last.node.id);
      last.down = last.isOpen;
      if (last.isOpen) branch(children, level + 1, after);
      else last.hidden = tree().listFrom(last.node.id).length - 1;
    }
  }

  // The inner nodes of a long run are one row, but for those that mean something.
  function fold(run) {
    const entries = [];
    let folded = [];
    const flush = () => {
      if (folded.length >= LEAST_FOLDED && !unfolded.has(folded[0].id)) entries.push({ fold: folded });
      else entries.push(...folded.map((node) => ({ node })));
      folded = [];
    };
    run.forEach((node, i) => {
      const isPlain = i > 0 && i < run.length - 1 && !node.starred && !node.name;
      if (isPlain && node.id !== chosen && node.id !== tree().current) folded.push(node);
      else {
        flush();
        entries.push({ node });
      }
    });
    flush();
    return entries;
  }

  const rowOf = (id) => rows.findIndex(({ node, fold: nodes }) => node?.id === id || nodes?.some((inner) => inner.id === id));

  // ---- drawing

  let frame = null;
  function draw() {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      if (!isShown()) return;
      if (!tree().node(chosen)) chosen = tree().current === tree().root.id ? tree().childrenOf(tree().root.id)[0] ?? null : tree().current;
      layOut();
      room.style.height = `${rows.length * ROW}px`;
      drawRows();
      drawChosen();
      $(".how-many").textContent = branches(tree().size);
      const isEmpty = tree().size === 0;
      $(".outline-empty").hidden = !isEmpty;
      for (const part of [".tree", ".outline-head", ".tree-keys"]) $(part).hidden = isEmpty;
    });
  }

  let indent = 18;
  function drawRows() {
    const deepest = rows.reduce((most, { level }) => Math.max(most, level), 1);
    indent = Math.max(4, Math.min(18, (0.35 * box.clientWidth) / deepest));
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE_ROWS);
    const last = Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE_ROWS;
    room.replaceChildren(...rows.slice(first, last).map((row, i) => drawRow(row, first + i)));
    const active = rowOf(chosen);
    if (active >= first && active < last) box.setAttribute("aria-activedescendant", `branch-row-${active}`);
    else box.removeAttribute("aria-activedescendant");
  }

  function drawRow(row, index) {
    const { node, level, isOpen } = row;
    const line = make("div", node ? "tree-row" : "tree-row is-fold");
    line.id = `branch-row-${index}`;
    line.style.top = `${index * ROW}px`;
    line.setAttribute("role", "treeitem");
    line.setAttribute("aria-level", String(level + 1));
    if (isOpen !== undefined || row.fold) line.setAttribute("aria-expanded", String(Boolean(isOpen)));
    line.setAttribute("aria-selected", String(node?.id === chosen));
    line.append(drawLines(row));
    if (row.fold) {
      line.appendChild(make("span", "words", `${plural(row.fold.length, "step")}, ${oneLine(row.fold.map(own).join("")).slice(0, SHOWN_CHARACTERS)}`));
      return line;
    }
    if (node.starred) line.appendChild(make("span", "star", "★")).setAttribute("aria-label", "starred");
    if (node.name) line.appendChild(make("bdi", "name", node.name));
    line.appendChild(beginning(node));
    if (node.id === tree().current) line.appendChild(make("span", "here", "in the editor"));
    if (row.hidden) line.appendChild(make("span", "hidden-count", `+${number(row.hidden)}`));
    const { run } = node;
    const meta = line.appendChild(make("span", "meta"));
    const isGrowing = tree().isGrowing(node.id);
    meta.appendChild(make("span", "", isGrowing ? "writing…" : run ? (ENDS[run.reason] ?? run.reason ?? "") : ""));
    meta.appendChild(make("span", "", run?.tokens !== undefined ? number(run.tokens) : ""));
    meta.appendChild(make("span", "", run?.mean_logprob !== undefined ? signed(run.mean_logprob, 2) : ""));
    return line;
  }

  // The words of a node that begins within its parent follow the last words that it keeps.
  function beginning(node) {
    const words = make("span", "words");
    const parent = tree().node(node.parent);
    if (node.at < tree().lengthOf(parent)) {
      const all = oneLine(tree().textOf(parent.id, node.at));
      const kept = all.length > KEPT_CHARACTERS ? all.slice(-KEPT_CHARACTERS).replace(/^\S*\s/, "") : all;
      words.appendChild(make("span", "kept", `…${kept}`));
    }
    const text = own(node);
    if (!text.trim()) words.appendChild(visible(text.slice(0, 20)));
    else {
      let isFirst = !words.firstChild;
      for (const [part, author] of pieces.slice(node.pieces, 0, SHOWN_CHARACTERS)) {
        const shown = oneLine(isFirst ? part.trimStart() : part);
        words.appendChild(make("span", author === PERSON ? "by-person" : "by-model", shown));
        isFirst = isFirst && !shown;
      }
    }
    return words;
  }

  function drawLines({ node, level, lines, joint, up, down, isOpen }) {
    const middle = ROW / 2;
    const x = (column) => 9 + column * indent;
    let path = "";
    lines.forEach((goesOn, column) => goesOn && (path += `M${x(column)} 0V${ROW}`));
    const dot = x(level);
    if (joint) {
      const from = x(level - 1);
      const bend = Math.min(6, indent / 2);
      path += `M${from} 0V${middle - bend}Q${from} ${middle} ${from + bend} ${middle}H${dot - 5}`;
      if (joint === "tee") path += `M${from} ${middle - bend}V${ROW}`;
    }
    if (up) path += `M${dot} 0V${middle - 5}`;
    if (down) path += `M${dot} ${middle + 5}V${ROW}`;
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("width", dot + 11);
    svg.setAttribute("height", ROW);
    svg.setAttribute("aria-hidden", "true");
    const draw = (tag, attributes) => {
      const shape = svg.appendChild(document.createElementNS(SVG, tag));
      for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    };
    draw("path", { d: path, class: "line" });
    if (!node) draw("path", { d: `M${dot} ${middle - 6}V${middle + 6}`, class: "folded" });
    else draw("circle", { cx: dot, cy: middle, r: 4, class: `${node.run ? "of-model" : "of-person"}${isOpen === false ? " is-closed" : ""}` });
    return svg;
  }

  // ---- the chosen node

  function choose(id, { scroll = true } = {}) {
    chosen = id;
    layOut();
    room.style.height = `${rows.length * ROW}px`; // before it is scrolled
    const index = rowOf(id);
    if (scroll && index >= 0) {
      const top = index * ROW;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
    }
    drawRows();
    drawChosen();
  }

  let drawn = ""; // what the chosen node's text was when it was drawn
  function drawChosen() {
    const node = tree().node(chosen);
    $(".chosen").hidden = !node;
    if (!node) return;
    const list = tree().piecesOf(node.id);
    const text = pieces.text(list);
    const key = `${node.id} ${node.at} ${text}`;
    if (key !== drawn) {
      drawn = key;
      const words = (part) => part.map(([words, author]) => make("span", author === PERSON ? "by-person" : "by-model", words));
      const mine = make("span", "own");
      mine.append(...words(pieces.slice(list, node.at, Infinity)));
      $(".chosen-text").replaceChildren(...words(pieces.slice(list, 0, node.at)), mine);
      const sheet = $(".chosen-text");
      sheet.scrollTop = Math.max(0, mine.offsetTop - sheet.offsetTop - sheet.clientHeight / 3);
    }
    const name = $(".chosen-name");
    if (document.activeElement !== name) name.value = node.name;
    button("star").setAttribute("aria-pressed", String(node.starred));
    button("star").textContent = node.starred ? "★ Starred" : "☆ Star";
    button("use-settings").disabled = !node.run;
    button("prune").disabled = isWriting();
    button("open").disabled = isWriting();
    drawFacts(node, text);
  }

  function drawFacts(node, text) {
    const list = $(".facts");
    list.replaceChildren();
    const fact = (name, value, title) => {
      if (value === undefined || value === "" || value === null) return;
      const term = list.appendChild(make("dt", "", name));
      if (title) term.title = title;
      list.appendChild(make("dd", "", value));
    };
    const { run } = node;
    fact("Origin", `${KINDS[node.kind]}, ${new Date(node.time).toLocaleString()}`);
    $(".chosen-prompt").hidden = !run;
    if (!run) return;
    fact("Ended", tree().isGrowing(node.id) ? "The model is writing." : run.message);
    fact("Tokens", run.tokens === undefined ? "" : number(run.tokens));
    if (run.mean_logprob !== undefined) {
      const title = "Mean log-probability of a token, by the model itself; and its perplexity";
      fact("Mean log-p", `${signed(run.mean_logprob, 3)} (perplexity ${Math.exp(-run.mean_logprob).toPrecision(3)})`, title);
    }
    fact("Settings", settingsOf(run));
    fact("Seed", run.seed === undefined ? "" : String(run.seed));
    fact("Model", run.model);
    fact("Revision", run.revision);
    fact("Precision", run.precision);
    const prompt = text.slice(0, run.prompt_length);
    $(".chosen-prompt summary").textContent = `Prompt, ${plural(prompt.length, "character")}`;
    $(".chosen-prompt p").textContent = prompt;
  }

  function settingsOf({ controls }) {
    const changed = Object.entries(controls ?? {});
    if (!changed.length) return "all controls at their defaults";
    return changed.map(([name, value]) => `${props.labels[name] ?? name} ${JSON.stringify(value)}`).join(", ");
  }

  // ---- what can be done with it

  const button = (action) => $(`[data-action="${action}"]`);

  function open(id = chosen) {
    if (isWriting()) return say("The model is writing. Stop it, or wait until it has ended.");
    if (!tree().node(id)) return;
    show("write");
    emit("open", id);
  }

  function star() {
    tree().star(chosen);
    changed();
  }

  function rename() {
    $(".chosen-name").focus();
    $(".chosen-name").select();
  }

  function prune() {
    const node = tree().node(chosen);
    if (!node) return;
    if (isWriting()) return say("The model is writing. Stop it, or wait until it has ended.");
    const siblings = tree().childrenOf(node.parent);
    const place = siblings.indexOf(node.id);
    const next = siblings[place + 1] ?? siblings[place - 1] ?? (node.parent === tree().root.id ? null : node.parent);
    const gone = tree().prune(node.id);
    chosen = next;
    changed();
    say(`Pruned ${branches(gone)}.`, () => restore(node.id));
  }

  function restore(id) {
    const node = tree().restore(id);
    if (!node) return;
    changed();
    choose(node.id);
    say("The branch is back.");
  }

  function changed() {
    sessions.scheduleSave();
    emit("tree");
  }

  let takeBack = null;
  function say(text, undo = null) {
    takeBack = undo;
    $(".told").hidden = false;
    $(".told p").textContent = text;
    button("take-back").hidden = !undo;
  }

  function dismiss() {
    $(".told").hidden = true;
    $(".told p").textContent = "";
    takeBack = null;
  }

  const known = (values) => Object.fromEntries(Object.entries(values).filter(([name]) => Object.hasOwn(state.defaults, name)));

  const actions = {
    open: () => open(),
    star,
    prune,
    "use-settings"() {
      useControls({ ...state.defaults, ...known(tree().node(chosen).run.controls) });
      say("The controls are set as they were for this branch.");
    },
    "take-back"() {
      const undo = takeBack;
      dismiss();
      undo?.();
      box.focus();
    },
    "dismiss-told": dismiss,
    "new-session": () => unlessWriting(() => sessions.begin()),
    import: () => unlessWriting(() => $(".import-file").click()),
    export(pressed) {
      const { file, type, content } = sessions.export(pressed.dataset.form);
      download(file, type, content);
      $(".export").open = false;
      say(`Exported as ${file}.`);
    },
    "open-session": ({ dataset }) => unlessWriting(() => {
      if (!sessions.open(dataset.id)) say("This session can no longer be read.");
      $(".sessions").open = false;
    }),
    "duplicate-session": ({ dataset }) => unlessWriting(() => sessions.duplicate(dataset.id)),
    "delete-session": ({ dataset }) => unlessWriting(() => {
      const undo = sessions.remove(dataset.id);
      $(".sessions").open = false; // it hides the way back
      say(`Deleted ${dataset.name}.`, undo);
      button("take-back").focus();
    }),
  };

  function unlessWriting(act) {
    if (isWriting()) say("The model is writing. Stop it, or wait until it has ended.");
    else act();
  }

  view.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-action]");
    if (pressed && !pressed.disabled) actions[pressed.dataset.action](pressed);
  });

  const nameField = $(".chosen-name");
  nameField.addEventListener("change", () => {
    if (!tree().node(chosen)) return;
    tree().rename(chosen, nameField.value.trim());
    changed();
  });
  nameField.addEventListener("keydown", (event) => {
    if (event.key === "Escape") nameField.value = tree().node(chosen)?.name ?? "";
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    box.focus(); // a changed name is taken on leaving the field
  });

  // ---- walking

  const keys = {
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    Home: () => goTo(0),
    End: () => goTo(rows.length - 1),
    PageDown: () => step(Math.floor(box.clientHeight / ROW) - 1),
    PageUp: () => step(1 - Math.floor(box.clientHeight / ROW)),
    ArrowRight() {
      const row = rows[rowOf(chosen)];
      if (row?.isOpen === false) {
        closed.delete(chosen);
        choose(chosen);
      } else {
        const [child] = tree().childrenOf(chosen);
        if (child) choose(child);
      }
    },
    ArrowLeft() {
      const row = rows[rowOf(chosen)];
      const node = tree().node(chosen);
      if (row?.isOpen && tree().childrenOf(chosen).length > 1) {
        closed.add(chosen);
        choose(chosen);
      } else if (node && node.parent !== tree().root.id) choose(node.parent);
    },
    Enter: () => open(),
    F2: rename,
    s: star,
    S: star,
    Delete: prune,
  };

  function step(by) {
    goTo(rowOf(chosen) + by);
  }

  // A folded run is opened where one walks into it.
  function goTo(index) {
    const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (!row) return;
    if (row.fold) unfolded.add(row.fold[0].id);
    const forwards = index >= rowOf(chosen);
    choose(row.node?.id ?? row.fold[forwards ? 0 : row.fold.length - 1].id);
  }

  box.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z") {
      event.preventDefault();
      return restore();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    if (tree().node(chosen)) keys[event.key]();
  });

  const rowAt = (event) => rows[Math.floor((event.clientY - room.getBoundingClientRect().top) / ROW)];

  // The first click draws the rows anew, so that a second one is not on the same element.
  let lastClick = { id: null, time: 0 };
  box.addEventListener("click", (event) => {
    const row = rowAt(event);
    if (!row) return;
    if (row.fold) {
      unfolded.add(row.fold[0].id);
      return choose(row.fold[0].id);
    }
    const { id } = row.node;
    if (event.target.closest("svg, .hidden-count") && row.isOpen !== undefined) {
      if (!closed.delete(id)) closed.add(id);
    } else if (lastClick.id === id && event.timeStamp - lastClick.time < DOUBLE_CLICK_MS) {
      return open(id);
    } else {
      lastClick = { id, time: event.timeStamp };
    }
    choose(id, { scroll: false });
  });
  box.addEventListener("scroll", () => drawRows(), { passive: true });
  new ResizeObserver(() => isShown() && drawRows()).observe(box);

  // ---- sessions

  function drawSessions() {
    const list = $(".session-list");
    list.replaceChildren(
      ...sessions.list().map(({ id, name, words, time, nodes, bytes, isOpen }) => {
        const item = make("li", isOpen ? "is-open" : "");
        const title = name || words || "Empty session";
        const act = (action, text, className, description) => {
          const pressed = make("button", className, text);
          pressed.type = "button";
          pressed.dataset.action = action;
          pressed.dataset.id = id;
          pressed.dataset.name = `“${title}”`;
          if (description) pressed.setAttribute("aria-label", `${description} “${title}”`);
          return pressed;
        };
        const opener = item.appendChild(act("open-session", "", "session-open"));
        if (isOpen) opener.setAttribute("aria-current", "true");
        opener.appendChild(make("bdi", "session-title", title));
        const size = bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KB` : `${(bytes / 2 ** 20).toFixed(1)} MB`;
        const facts = [isOpen ? "open" : new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }), branches(nodes), size];
        if (name && words) facts.push(words);
        opener.appendChild(make("small", "", facts.join(" · ")));
        item.appendChild(act("duplicate-session", "Duplicate", "link", "Duplicate"));
        item.appendChild(act("delete-session", "Delete", "link", "Delete"));
        return item;
      }),
    );
  }

  $(".sessions").addEventListener("toggle", () => $(".sessions").open && drawSessions());

  $(".session-name").addEventListener("change", () => {
    sessions.rename(sessions.current.id, $(".session-name").value.trim());
    if ($(".sessions").open) drawSessions();
  });
  $(".session-name").addEventListener("keydown", (event) => event.key === "Enter" && event.target.blur());

  $(".import-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file can be chosen again
    if (!file) return;
    say(`Reading ${file.name}…`);
    try {
      await sessions.import(file);
      say(`Imported ${file.name} as a session of its own.`);
    } catch (error) {
      say(`${error.message} Your text is as it was.`);
    }
  });

  for (const card of [$(".sessions"), $(".export")]) {
    document.addEventListener("click", ({ target }) => {
      if (card.open && !card.contains(target) && target.isConnected) card.open = false;
    });
    card.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !card.open) return;
      event.stopPropagation();
      card.open = false;
      card.querySelector("summary").focus();
    });
  }

  // ---- news

  function drawAll() {
    const name = $(".session-name");
    if (document.activeElement !== name) name.value = sessions.current.name;
    $(".not-kept").hidden = !sessions.message;
    $(".not-kept").textContent = sessions.message;
    draw();
  }

  // Beginning at the node in the editor.
  function enter() {
    if (!isWriting()) tree().commit(sessions.current.written.pieces);
    chosen = tree().current === tree().root.id ? null : tree().current;
    drawAll();
    requestAnimationFrame(() => {
      if (tree().node(chosen)) choose(chosen);
      if (isShown() && !view.contains(document.activeElement)) box.focus({ preventScroll: true });
    });
  }

  on("view", (name) => name === "branches" && enter());
  on("tree", () => isShown() && draw());
  on("session", () => {
    closed.clear();
    unfolded.clear();
    takeBack = null;
    $(".told").hidden = true;
    if (isShown()) enter();
    if ($(".sessions").open) drawSessions();
  });
  on("keeping", drawAll);
  on("stored", () => isShown() && $(".sessions").open && drawSessions());
  if (isShown()) enter();
}
