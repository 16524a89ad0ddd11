// The settings belong to the session: its changed controls are kept with it, and put back into the panel when the
// page is loaded or another session is opened.

import { on } from "../../core/events.js";
import { defaultControls } from "../../core/presets.js";
import { sessions } from "../../core/sessions.js";
import { changedControls, state, useControls } from "../../core/state.js";

export function keepControls() {
  let hasPanel = false; // whether the panel's values are known
  let isPutting = false; // whether the session's values are on their way into the panel

  // Leave out values that the control does not accept.
  /** @param {Controls} kept @returns {Controls} */
  function usable(kept) {
    return Object.fromEntries(
      Object.entries(kept).filter(([name, value]) => {
        const initial = state.defaults[name];
        return typeof initial === "number" ? Number.isFinite(value) : typeof value === typeof (initial ?? "");
      }),
    );
  }

  async function putBack() {
    if (!hasPanel) return;
    const controls = sessions.current.controls ?? defaultControls();
    if (controls) {
      const wanted = { ...state.defaults, ...usable(controls) };
      const isThere = Object.entries(wanted).every(([name, value]) => String(state.controls[name] ?? "") === String(value ?? ""));
      isPutting = !isThere;
      if (isPutting) await useControls(wanted);
      isPutting = false;
    }
    remember();
  }

  function remember() {
    const changed = changedControls(state.controls);
    const isSame = JSON.stringify(changed) === JSON.stringify(sessions.current.controls ?? {});
    sessions.current.controls = changed; // also {}, else it would take over the settings of the session before it
    if (!isSame) sessions.scheduleSave();
  }

  on("session", putBack);
  on("controls", () => {
    if (!hasPanel) {
      hasPanel = true;
      putBack();
    } else if (!isPutting) remember();
  });
}
