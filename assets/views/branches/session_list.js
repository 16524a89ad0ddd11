// The list of the visitor's sessions: each can be opened, duplicated and deleted.

import { make, makeButton } from "../../components/dom.js";
import { bytesText } from "../../core/format.js";
import { locale, t } from "../../core/i18n.js";
import { sessions } from "../../core/sessions.js";

/** @param {number} n */
export const branches = (n) => t("count.branches", { count: n });

/** @param {HTMLElement} list */
export function drawSessions(list) {
  list.replaceChildren(
    ...sessions.list().map(({ id, name, words, time, nodes, bytes, isOpen }) => {
      const item = make("li", isOpen ? "is-open" : "");
      const title = name || words || t("branches.empty_session");
      const quoted = t("text.quoted", { text: title });
      const act = (/** @type {string} */ action, /** @type {string} */ className, /** @type {Record<string, string>} */ attributes, text = "") =>
        makeButton(className, text, null, { "data-action": action, "data-id": id, "data-name": quoted, ...attributes });
      const saved = new Date(time).toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
      const facts = [isOpen ? t("branches.open") : saved, branches(nodes), bytesText(bytes), ...(name && words ? [words] : [])];
      const open = act("open-session", "session-open", isOpen ? { "aria-current": "true" } : {});
      open.append(make("bdi", "session-title", title), make("small", "", facts.join(" · ")));
      item.append(
        open,
        act("duplicate-session", "link", { "aria-label": `${t("branches.duplicate")} ${quoted}` }, t("branches.duplicate")),
        act("delete-session", "link", { "aria-label": `${t("branches.delete")} ${quoted}` }, t("branches.delete")),
      );
      return item;
    }),
  );
}
