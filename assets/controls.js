// What the panel shows of the controls' values, all in the browser: what is off looks off, and a closed
// group says how many of its controls were changed. Called with `table`, an entry a control, and then,
// whenever a value changed, with the values in the table's order. The other components learn them from
// the news "controls".
(table) => (...values) => {
  const isDefault = (value, initial) =>
    typeof initial === "number" ? value !== "" && Number(value) === initial : (value ?? "") === initial;
  requestAnimationFrame(() => {
    const changed = {};
    table.forEach(({ name, group, off, initial }, i) => {
      const differs = !isDefault(values[i], initial);
      changed[group] = (changed[group] ?? 0) + differs;
      const control = document.getElementById(`control-${name}`); // those of a closed group are not there
      control?.toggleAttribute("data-changed", differs);
      control?.toggleAttribute("data-off", off !== null && Number(values[i]) === off);
    });
    for (const [group, count] of Object.entries(changed)) {
      const title = document.querySelector(`#${group} > button > span`);
      if (count) title?.setAttribute("data-changed", `${count} changed`);
      else title?.removeAttribute("data-changed");
    }
  });
  gptj.defaults = Object.fromEntries(table.map(({ name, initial }) => [name, initial]));
  const named = Object.fromEntries(table.map(({ name }, i) => [name, values[i]]));
  gptj.tell("controls", named);
  return [];
}
