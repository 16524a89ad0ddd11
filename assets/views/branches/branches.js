// The Branches view: the open session's tree as an outline, the chosen node beside it, and the sessions
// above. Texts are untrusted and inserted as text only.

import { closeBeside, download, find, finder, isComposing, isEscape, isTextField, onPress, undoOrRedo } from "../../components/dom.js";
import { show, shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { sessions } from "../../core/sessions.js";
import { state, useControls } from "../../core/state.js";
import { ChosenNode } from "./chosen.js";
import { Outline } from "./outline.js";
import { branches, drawSessions } from "./session_list.js";

const WRITING = t("branches.wait");

/** @param {Component} component */
export function mount({ element }) {
  const view = find(element, ".branches");
  const $ = finder(view);
  const sessionName = $(".session-name", HTMLInputElement);
  const nodeName = $(".chosen-name", HTMLInputElement);
  const sessionMenu = $(".sessions", HTMLDetailsElement);
  const exportMenu = $(".export", HTMLDetailsElement);
  const tree = () => sessions.current.tree;
  const isShown = () => shownView() === "branches";
  const isWriting = () => tree().growing.length > 0;

  const chosen = new ChosenNode(view);
  const outline = new Outline(view, {
    chose: drawChosen,
    open,
    actions: { F2: rename, s: star, Delete: prune },
  });
  const chosenNode = () => tree().node(outline.chosen);

  function drawChosen() {
    chosen.draw(chosenNode());
  }

  let frame = /** @type {number | null} */ (null);
  function draw() {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      if (!isShown()) return;
      outline.draw();
      drawChosen();
      $(".how-many").textContent = branches(tree().size);
    });
  }

  // ---- actions on the chosen node

  /** @param {string | null} [id] */
  function open(id = outline.chosen) {
    if (isWriting()) return tellToWait();
    if (!tree().node(id)) return;
    show("write");
    emit("open", id);
  }

  function star() {
    const node = chosenNode();
    if (!node) return;
    tree().star(node.id);
    changed();
  }

  function rename() {
    nodeName.focus();
    nodeName.select();
  }

  function prune() {
    const node = chosenNode();
    if (!node) return;
    if (isWriting()) return tellToWait();
    const siblings = tree().childrenOf(node.parent);
    const place = siblings.indexOf(node.id);
    outline.chosen = siblings[place + 1] ?? siblings[place - 1] ?? (node.parent === tree().root.id ? null : node.parent);
    const gone = tree().prune(node.id);
    changed();
    say(t("branches.pruned", { count: gone }), () => restore(node.id));
  }

  /** @param {string} [id] */
  function restore(id) {
    const node = tree().restore(id);
    if (!node) return;
    changed();
    outline.choose(node.id);
    say(t("branches.is_back"));
  }

  function changed() {
    sessions.scheduleSave();
    emit("tree");
  }

  // ---- messages

  let takeBack = /** @type {(() => void) | null} */ (null);
  /** @param {string} text @param {(() => void) | null} [undo] */
  function say(text, undo = null) {
    takeBack = undo;
    $(".branches-notice").hidden = false;
    $(".branches-notice p").textContent = text;
    $('[data-action="take-back"]').hidden = !undo;
  }

  const tellToWait = () => say(WRITING, takeBack);

  function takeItBack() {
    const undo = takeBack;
    dismiss();
    undo?.();
    outline.box.focus();
  }

  function dismiss() {
    $(".branches-notice").hidden = true;
    $(".branches-notice p").textContent = "";
    takeBack = null;
  }

  // ---- input

  /** @template {any[]} A @param {(...given: A) => void} act @returns {(...given: A) => void} */
  const unlessWriting = (act) => (...given) => (isWriting() ? tellToWait() : act(...given));

  onPress(view, {
    open: () => open(),
    star,
    prune,
    "use-settings"() {
      const own = Object.entries(chosenNode()?.run?.controls ?? {});
      const known = own.filter(([name]) => Object.hasOwn(state.defaults, name));
      useControls({ ...state.defaults, ...Object.fromEntries(known) });
      say(t("branches.settings_used"));
    },
    "take-back": unlessWriting(takeItBack),
    "dismiss-notice": dismiss,
    "new-session": unlessWriting(() => sessions.begin()),
    import: unlessWriting(() => $(".import-file").click()),
    export({ dataset }) {
      const { file, type, content } = sessions.export(/** @type {"json" | "markdown" | "text"} */ (dataset.form));
      download(file, type, content);
      exportMenu.open = false;
      find(exportMenu, "summary").focus();
      say(t("branches.exported", { file }));
    },
    "open-session": unlessWriting(({ dataset }) => {
      if (!sessions.open(dataset.id ?? "")) say(t("branches.unreadable"));
      sessionMenu.open = false;
    }),
    "duplicate-session": unlessWriting(({ dataset }) => sessions.duplicate(dataset.id ?? "")),
    "delete-session": unlessWriting(({ dataset }) => {
      const undo = sessions.remove(dataset.id ?? "");
      sessionMenu.open = false; // it would cover the Undo button
      say(t("branches.deleted", { name: dataset.name }), undo);
      $('[data-action="take-back"]').focus();
    }),
  });

  nodeName.addEventListener("change", () => {
    const node = chosenNode();
    if (!node) return;
    tree().rename(node.id, nodeName.value.trim());
    changed();
  });
  nodeName.addEventListener("keydown", (event) => {
    if (isComposing(event)) return;
    if (event.key === "Escape") nodeName.value = chosenNode()?.name ?? "";
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    outline.box.focus(); // leaving the field saves a changed name
  });

  const drawList = () => sessionMenu.open && drawSessions($(".session-list"));
  sessionMenu.addEventListener("toggle", drawList);
  sessionName.addEventListener("change", () => {
    sessions.rename(sessions.current.id, sessionName.value.trim());
    drawList();
  });
  sessionName.addEventListener("keydown", (event) => event.key === "Enter" && !isComposing(event) && sessionName.blur());

  $(".import-file").addEventListener("change", async ({ target }) => {
    const input = /** @type {HTMLInputElement} */ (target);
    const file = input.files?.[0];
    if (!file) return;
    say(t("branches.reading", { file: file.name }));
    try {
      await sessions.import(file);
      say(t("branches.imported", { file: file.name }));
    } catch (error) {
      say(t("branches.not_imported", { why: /** @type {Error} */ (error).message }));
    } finally {
      input.value = ""; // so that the same file can be chosen again
    }
  });

  for (const card of [sessionMenu, exportMenu]) {
    closeBeside(card);
    card.addEventListener("keydown", (event) => {
      if (!isEscape(event) || !card.open) return;
      event.stopPropagation();
      card.open = false;
      find(card, "summary").focus();
    });
  }

  // Undo and redo work as in the editor, unless something was just removed here.
  document.addEventListener("keydown", (event) => {
    const direction = isShown() && !isTextField(event.target) ? undoOrRedo(event) : 0;
    if (!direction) return;
    event.preventDefault();
    if (isWriting()) return tellToWait();
    if (direction < 0 && (takeBack || tree().pruned.length)) return takeBack ? takeItBack() : restore();
    emit("walk", direction > 0 ? "redo" : "undo");
    enter();
  });

  // ---- events

  function drawAll() {
    if (document.activeElement !== sessionName) sessionName.value = sessions.current.name;
    $(".not-kept").hidden = !sessions.message;
    $(".not-kept").textContent = sessions.message;
    draw();
  }

  // Show the view with the editor's node chosen.
  function enter() {
    if (!isWriting()) tree().commit(sessions.current.written.pieces);
    outline.chosen = tree().current === tree().root.id ? null : tree().current;
    drawAll();
    requestAnimationFrame(() => {
      if (chosenNode()) outline.choose(outline.chosen);
      if (isShown() && !view.contains(document.activeElement)) outline.box.focus({ preventScroll: true });
    });
  }

  on("view", (name) => name === "branches" && enter());
  on("tree", () => isShown() && draw());
  on("session", () => {
    outline.reset();
    dismiss();
    if (isShown()) enter();
    drawList();
  });
  on("keeping", drawAll);
  on("stored", () => isShown() && drawList());
  if (isShown()) enter();
}
