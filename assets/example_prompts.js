// Buttons for the beginnings that suit the model that answers.

const list = element.querySelector("ul");
let shown = null;

function show(set) {
  if (set === shown) return;
  shown = set;
  list.replaceChildren(
    ...props.examples[set].map(({ name, text }) => {
      const item = document.createElement("li");
      const button = item.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => gptj.tell("text", text));
      return item;
    }),
  );
}

// Until the model is known the stories are shown, which any model can go on with.
gptj.listen("status", ({ model }) => show(model && !model.is_sample ? "gptj" : "sample"));
