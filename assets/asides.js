// What the editor remarks on in a line under the text: what a scaffold wrote, that the words go round in a
// loop, and, by grey letters, which beginning of the text the model does not read. A part of the editor's
// script: `written`, `running` and the functions it calls are the editor's.

const LOOP_LOOK_MS = 400;
const DRY_USUAL = 0.8; // see the control's help
const DRY_MOST = 5;
const QUOTE_MOST = 60; // characters of what is repeated that are shown

let aside = null; // what the line says: {kind, text}; `text` as it stands while that is so, null while it grows
let lookedForLoop = 0; // when
let loopsLeftAlone = null; // the run whose loop was dismissed
let cutWhenStopped = false;
let unread = 0; // tokens of the beginning that are left out
let unreadEnd = 0; // where they end, a place in the text
let windowLook = 0; // counts the questions about them: an older one's answer is not taken

// ---- the line

function showAside(kind, message, actions) {
  const line = $(".aside");
  line.hidden = false;
  setText(line.querySelector("p"), message);
  line.querySelector(".aside-actions").replaceChildren(
    ...actions.map(([name, act]) => {
      const button = gptj.make("button", "link", name);
      button.type = "button";
      button.addEventListener("click", act);
      return button;
    }),
  );
  if (aside?.kind !== kind) say(message);
  aside = { kind, text: kind === "cut" ? null : written.text };
}

function hideAside() {
  const line = $(".aside");
  if (line.contains(document.activeElement)) area.focus({ preventScroll: true });
  line.hidden = true;
  aside = null;
}

function dismissAside() {
  if (aside?.kind === "loop") loopsLeftAlone = written.runs;
  hideAside();
}

// {message, controls}: what was put into the text, and what the controls it set held before.
gptj.listen("aside", ({ message, controls }) => {
  showAside("step", message, [["Undo", () => {
    hideAside();
    if (running) return;
    gptj.useControls(controls);
    walk("undo");
    area.focus({ preventScroll: true });
  }]]);
});

// The text has changed, by hand or by steps.
function lookAgain() {
  if (!aside || running) return;
  const { kind, text } = aside;
  if (kind === "loop" ? !loopAtEnd() : text !== null && text !== written.text) hideAside();
}

// ---- loops

// The loop that the model's words at the end of the text run in, with places in the text; null for none.
function loopAtEnd() {
  const { text } = written;
  let length = 0;
  for (let i = written.pieces.length - 1; i >= 0 && written.pieces[i][1] !== PERSON; i -= 1) {
    length += written.pieces[i][0].length;
    if (length >= LOOP_TAIL) break;
  }
  const from = text.length - Math.min(length, LOOP_TAIL);
  const loop = findLoop(text.slice(from));
  return loop && { ...loop, start: from + loop.start, cut: from + loop.cut };
}

function lookForLoop({ now = false } = {}) {
  if (loopsLeftAlone === written.runs) return;
  if (!now && performance.now() - lookedForLoop < LOOP_LOOK_MS) return;
  lookedForLoop = performance.now();
  const loop = loopAtEnd();
  if (!loop) return;
  const isNew = aside?.kind !== "loop" || aside.running !== Boolean(running);
  if (!isNew) return;
  const words = written.text.slice(loop.cut - loop.period, loop.cut).replace(/\s+/g, " ").trim();
  const quoted = words.length > QUOTE_MOST ? `${words.slice(0, QUOTE_MOST).trimEnd()}…` : words;
  const actions = [["Cut back and go on", cutBack]];
  if (running) actions.unshift(["Stop here", stop]);
  showAside("loop", `The text has begun to repeat itself: “${quoted}”`, actions);
  aside.running = Boolean(running);
}

// Cut behind the first of what is repeated and write on from there, with a control against repetition
// raised. The cut and the new words are one step. A run that is under way is stopped first.
async function cutBack() {
  if (running) {
    cutWhenStopped = true;
    stop();
    return;
  }
  const loop = loopAtEnd();
  if (!loop) return hideAside();
  const before = Number(gptj.controls.dry_multiplier) || 0;
  const raised = Math.min(DRY_MOST, before < DRY_USUAL ? DRY_USUAL : 2 * before);
  const { text } = written;
  await gptj.useControls({ dry_multiplier: raised });
  if (running || written.text !== text) return;
  generate({ at: loop.cut });
  const how = raised > before ? `raised from ${before || "off"} to ${raised}` : `at its most, ${raised},`;
  showAside("cut", `Cut back to where it stood first; DRY multiplier ${how} against repetition.`, []);
}

function looksWhenRunEnds() {
  const cut = cutWhenStopped;
  cutWhenStopped = false;
  if (aside?.kind === "cut") aside.text = written.text;
  if (cut) cutBack();
  else lookForLoop({ now: true });
}

// ---- what the model does not read

// Where `truncate` lets the beginning be left out: how much of it, with the length that is asked for now.
async function lookAtWindow(text = written.text) {
  const { truncate, max_new_tokens } = gptj.controls;
  const context = model?.context_length;
  const most = context && context - Math.min(Number(max_new_tokens), Math.floor(context / 2));
  const look = (windowLook += 1);
  let found = { tokens: 0, end: 0 };
  if (truncate === "left" && most && (running || counted?.tokens > most)) {
    try {
      found = await server.unread({ text, max_new_tokens: Number(max_new_tokens) });
    } catch {
      return; // the next change asks again
    }
    if (look !== windowLook || !written.text.startsWith(text)) return;
  }
  [unread, unreadEnd] = [found.tokens, found.end];
  paintUnread();
  showStatus();
}

// As grey letters over whatever colours the words have; called whenever the ink was made anew.
function paintUnread() {
  if (!globalThis.Highlight) return;
  if (!unreadEnd || unreadEnd > written.text.length) {
    CSS.highlights.delete("unread");
    return;
  }
  const range = document.createRange();
  range.setStart(ink, 0);
  let left = unreadEnd;
  const texts = document.createTreeWalker(ink, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    range.setEnd(node, Math.min(left, node.length));
    left -= node.length;
    if (left <= 0) break;
  }
  const highlight = new Highlight(range);
  highlight.priority = 10;
  CSS.highlights.set("unread", highlight);
}

gptj.listen("controls", () => running || lookAtWindow());
