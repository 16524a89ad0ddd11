// The tree of likely continuations: requests the most probable ones of the editor's text, and puts one into the editor.
// outline.js draws the tree. Texts are untrusted and inserted as text only.

import { bringIntoView, finder, isDialogOpen, isEscape, isRunKey, make, onPress, setText, showRunKey, swapButtons } from "../../components/dom.js";
import { leaveOut, noticesOf } from "../../components/notice.js";
import { show, shownView } from "../../components/page.js";
import { tail } from "../../core/characters.js";
import { emit, on } from "../../core/events.js";
import { percent } from "../../core/format.js";
import { t } from "../../core/i18n.js";
import { LikelyTree, pathOf } from "../../core/likely_tree.js";
import { TOO_LONG, sentOf } from "../../core/long_text.js";
import { Run } from "../../core/run.js";
import { sessions } from "../../core/sessions.js";
import { state } from "../../core/state.js";
import { readJSON, write } from "../../core/storage.js";
import { LikelyOutline } from "./outline.js";

const STORAGE = "gptj-playground/likely";
const SHOWN_BEFORE = 240; // characters of the text before the tree
const FIELDS = ["whose", "nodes", "depth", "least"];
const SHOWN_LENGTHS = 12;

/** @param {Component} component */
export function mount({ element, trigger, props, server, watch }) {
  const $ = finder(element);
  const { showNotice, hideNotice } = noticesOf(element);
  const button = (/** @type {string} */ action) => $(`[data-action="${action}"]`, HTMLButtonElement);
  const field = (/** @type {string} */ name) => $(`[data-field="${name}"]`, HTMLSelectElement);

  let tree = new LikelyTree();
  let prompt = ""; // the text that the tree follows
  let asked = /** @type {Record<string, any>} */ ({}); // the settings that it was grown with
  let running = /** @type {Run | null} */ (null);
  let grown = 0; // nodes of the present growth
  let isHidden = true; // until there is a tree

  const outline = new LikelyOutline($(".likely-tree"), {
    chose: showChosen,
    enter: take,
  });

  // ---- requests

  /** Grow below a node: the root for a new tree. @param {import("../../core/likely_tree.js").LikelyNode | null} node */
  function grow(node, truncate = node ? asked.truncate : (state.controls.truncate ?? "error")) {
    if (running) return;
    hideNotice();
    if (!node) {
      prompt = sessions.current.written.text;
      const { whose, ...limits } = read();
      asked = { ...limits, controls: whose === "controls" ? { ...state.controls } : null };
      tree = new LikelyTree();
      outline.show(tree);
    }
    asked.truncate = truncate;
    const below = node ?? tree.root;
    tree.begin(below);
    grown = 0;
    running = new Run({ records: readRecords, stop: (id) => server.stop(id), silent: () => end(t("why.silent")) });
    showRunning(true);
    showProgress();
    trigger("grow", {
      id: running.id,
      prompt: sentOf(prompt, truncate),
      path: pathOf(below).slice(1).map(({ tokenId }) => tokenId),
      ...asked,
    });
  }

  /** @param {any[]} records */
  function readRecords(records) {
    for (const record of records) if (running) handlers[record.event]?.(record);
    if (running) showProgress();
  }

  /** @type {Record<string, (record: any) => void>} */
  const handlers = {
    nodes({ nodes }) {
      tree.add(nodes);
      grown += nodes.length;
      tree.openBest(tree.below);
      isHidden = false;
      showTree();
    },
    refused({ message, code }) {
      const node = tree.below === tree.root ? null : tree.below;
      end(message);
      if (TOO_LONG.includes(code)) showNotice(message, leaveOut(() => grow(node, "left")));
    },
    end: ({ stopped }) => end(stopped ? "" : null),
  };

  /** @param {string | null} message null on success, empty if the visitor stopped it */
  function end(message) {
    running?.end();
    running = null;
    showRunning(false);
    const tokens = t("count.tokens", { count: grown });
    setText($(".likely-progress"), !grown ? "" : message === "" ? t("likely.stopped", { tokens }) : tokens);
    if (message) showNotice(message);
    showTree();
    if (message === null) bringIntoView($(".likely-result"));
  }

  function showProgress() {
    setText($(".likely-progress"), running?.isStopping ? t("run.stopping") : t("likely.growing_to", { done: grown, all: asked.nodes }));
  }

  /** @param {boolean} isRunning */
  function showRunning(isRunning) {
    swapButtons(button(isRunning ? "grow" : "stop"), button(isRunning ? "stop" : "grow"));
    showChosen();
  }

  watch("value", () => running?.receive(props.value));

  // ---- what is shown

  function showTree() {
    $(".likely-result").hidden = isHidden;
    outline.draw();
    showCovered();
    showChosen();
  }

  function showCovered() {
    const shares = tree.covered.slice(0, SHOWN_LENGTHS).map((share, i) => {
      const item = make("li");
      item.append(make("span", "likely-length", t("count.tokens", { count: i + 1 })), make("b", "", percent(Math.log(share))));
      item.style.setProperty("--probability", String(Math.min(1, share)));
      return item;
    });
    $(".likely-covered ol").replaceChildren(...shares);
  }

  function showChosen() {
    const { chosen } = outline;
    $(".likely-chosen").hidden = !chosen;
    if (!chosen) return;
    const text = $(".likely-text");
    text.replaceChildren(make("span", "", endOf(prompt)), make("span", "by-model", chosen.text));
    text.scrollTop = text.scrollHeight; // the chosen words are at its end
    const facts = { length: t("count.tokens", { count: chosen.depth }), probability: percent(chosen.total) };
    setText($(".likely-facts"), t(chosen.ends ? "likely.facts_end" : "likely.facts", facts));
    button("further").disabled = running !== null || chosen.ends;
    setText(button("take"), t(isStale() ? "likely.replace" : "likely.take"));
  }

  /** Whether the editor has another text than the one that the tree follows. */
  const isStale = () => !isHidden && sessions.current.written.text !== prompt;

  function showPrompt() {
    const { text } = sessions.current.written;
    const line = $(".likely-prompt");
    line.classList.toggle("is-empty", !text);
    setText(line, text ? endOf(text) : t("likely.no_text"));
    if (!isHidden && !running) setText($(".likely-progress"), isStale() ? t("likely.other_text") : "");
    showChosen();
  }

  /** @param {string} text */
  const endOf = (text) => (text.length > SHOWN_BEFORE ? `…${tail(text, SHOWN_BEFORE)}` : text);

  /** Put the chosen continuation behind the text that it follows, in the place of any other text. */
  function take() {
    const { chosen } = outline;
    if (!chosen) return;
    if (sessions.current.tree.growing.length) return showNotice(t("branches.wait"));
    const replaces = isStale();
    show("write"); // first: a hidden editor can neither scroll nor have the focus
    emit("text", { text: prompt, words: chosen.text });
    if (replaces) emit("aside", { message: t("likely.replaced"), controls: {} });
  }

  // ---- fields

  const read = () => ({
    whose: field("whose").value,
    nodes: Number(field("nodes").value),
    depth: Number(field("depth").value),
    least: Number(field("least").value),
  });

  const kept = readJSON(STORAGE);
  for (const name of FIELDS) {
    const value = String(kept?.[name] ?? "");
    if ([...field(name).options].some((option) => option.value === value)) field(name).value = value;
    field(name).addEventListener("change", () => write(STORAGE, JSON.stringify(read())));
  }

  // ---- input

  onPress(element, {
    grow: () => grow(null),
    stop: () => running?.stop(),
    further: () => grow(outline.chosen),
    take,
    dismiss: hideNotice,
  });

  document.addEventListener("keydown", (event) => {
    if (shownView() !== "likely" || isDialogOpen()) return;
    if (isRunKey(event)) {
      event.preventDefault();
      grow(null);
    } else if (isEscape(event) && running) {
      event.preventDefault();
      running.stop();
    }
  });

  on("view", (name) => name === "likely" && showPrompt());
  on("session", showPrompt);
  showRunKey(element);
  showPrompt();
}
