// Keeps what is typed while the model writes and the text is locked; it is inserted when the model has ended.

import { isComposing } from "../../components/dom.js";
import { boundaryBefore } from "../../core/characters.js";

export class TypedAhead {
  /** @param {HTMLTextAreaElement} area @param {{isLocked: () => boolean, changed: () => void}} editor */
  constructor(area, { isLocked, changed }) {
    this.text = "";
    area.addEventListener("keydown", (event) => {
      if (!isLocked() || !this.read(event)) return;
      event.preventDefault();
      changed();
    });
    area.addEventListener("paste", ({ clipboardData }) => {
      if (!isLocked()) return;
      this.text += (clipboardData?.getData("text/plain") ?? "").replace(/\r\n?/g, "\n");
      changed();
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

  /** Return and clear what was typed. */
  take() {
    const { text } = this;
    this.text = "";
    return text;
  }
}
