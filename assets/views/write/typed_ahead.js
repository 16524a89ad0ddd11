// Keeps what is typed while the model writes and the text is locked. It is inserted when the request ends or its
// connection is lost; until then it is in the tab's storage, so that it is inserted after a reload too.

import { isComposing } from "../../components/dom.js";
import { boundaryBefore } from "../../core/characters.js";
import * as pending from "../../core/pending.js";
import { sessions } from "../../core/sessions.js";

export class TypedAhead {
  /**
   * @param {HTMLTextAreaElement} area
   * @param {{isLocked: () => boolean, changed: () => void, insert: (words: string) => void}} editor
   */
  constructor(area, { isLocked, changed, insert }) {
    this.insert = insert;
    this.text = pending.typedIn(sessions.current.id);
    const keep = () => {
      pending.keepTyped(sessions.current.id, this.text);
      changed();
    };
    area.addEventListener("keydown", (event) => {
      if (!isLocked() || !this.read(event)) return;
      event.preventDefault();
      keep();
    });
    area.addEventListener("paste", (event) => {
      if (!isLocked()) return;
      event.preventDefault();
      this.text += (event.clipboardData?.getData("text/plain") ?? "").replace(/\r\n?/g, "\n");
      keep();
    });
  }

  /** Returns whether the key changed the text. @param {KeyboardEvent} event */
  read(event) {
    const { key, ctrlKey, metaKey, altKey } = event;
    const isCommand = (ctrlKey || metaKey || altKey) && !event.getModifierState("AltGraph");
    if (isCommand || isComposing(event)) return false;
    if (key === "Backspace" && this.text) this.text = this.text.slice(0, boundaryBefore(this.text, this.text.length - 1));
    else if (key === "Enter") this.text += "\n";
    else if ([...key].length === 1) this.text += key;
    else return false;
    return true;
  }

  /** Insert what was typed. */
  putIn() {
    const { text } = this;
    if (!text) return;
    this.text = "";
    this.insert(text);
    pending.keepTyped(sessions.current.id, "");
  }
}
