// The beginning of a text that the model does not read, because the text is too long: in grey, and counted.

import { sentOf } from "../../core/long_text.js";
import { sessions } from "../../core/sessions.js";
import { state } from "../../core/state.js";

export class ReadWindow {
  /**
   * `ask(question)` asks the server; `show()` is called with every answer.
   * @param {{ask: (question: any) => Promise<{tokens: number, end: number}>, show: () => void}} editor
   */
  constructor({ ask, show }) {
    this.ask = ask;
    this.show = show;
    this.tokens = 0; // that are left out, where they are counted
    this.end = 0; // where they end in the text
    this.isCut = false; // whether the text is so long that its beginning is not sent, and its tokens are not counted
    this.number = 0; // of the latest question; older answers are ignored
  }

  /**
   * Find out how much of a text is left out with the present length; `tokens` is the number of tokens of the text and
   * the memory, if it is known.
   * @param {string} text @param {number} tokens @param {() => string} present the text once the answer is there
   */
  async look(text, tokens, present) {
    const { truncate, max_new_tokens } = state.controls;
    const length = Number(max_new_tokens);
    const context = state.status?.context_length;
    const most = context && context - Math.min(length, Math.floor(context / 2));
    const number = (this.number += 1);
    const sent = sentOf(text, truncate);
    const cut = text.length - sent.length;
    let found = { tokens: 0, end: 0 };
    if (truncate === "left" && most && (cut || tokens > most)) {
      const { memory } = sessions.current;
      const answer = await this.ask({ text: sent, max_new_tokens: length, memory }).catch(() => null); // the next change asks again
      if (!answer || number !== this.number || !present().startsWith(text)) return;
      found = answer;
    }
    this.isCut = cut > 0;
    this.tokens = this.isCut ? 0 : found.tokens;
    this.end = cut + found.end;
    this.show();
  }
}
