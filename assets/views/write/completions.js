// The completions of a request as their words arrive: their texts with the line ends of the textarea, and their ends.

export class Completions {
  /** @param {string} prompt @param {boolean} isRest whether it writes only the rest of the length of an earlier request */
  constructor(prompt = "", isRest = false) {
    this.prompt = prompt;
    this.isRest = isRest;
    /** @type {{text: string, end: any, isHalf: boolean}[]} `isHalf`: the text so far ends in a \r */
    this.all = [];
  }

  /** @param {number} index */
  at(index) {
    return (this.all[index] ??= { text: "", end: null, isHalf: false });
  }

  /** Add a record's words; returns them with \n as line end, also where one is cut by the end of a record. @param {{index: number, text: string}} record */
  add({ index, text }) {
    if (!text) return text;
    const completion = this.at(index);
    const rest = completion.isHalf && text[0] === "\n" ? text.slice(1) : text;
    completion.isHalf = text.endsWith("\r");
    const added = rest.replace(/\r\n?/g, "\n");
    completion.text += added;
    return added;
  }

  /** How each one ended, with the whole text that it makes. @param {{total: number, rate?: number, completions?: number}} shared */
  endings({ total, rate, completions }) {
    const { prompt, isRest } = this;
    const ended = this.all.filter((one) => one?.end);
    return ended.map(({ text, end }) => ({ text: prompt + text, end: { ...end, total, rate, completions, isRest, isEmpty: !text } }));
  }
}
