// In the page's head, before anything else: finds the modules' address and loads them. CONFIG is replaced
// by the server: {base, modules, views, languages}. `gptj` is what Gradio's event scripts and tests reach the page by.
(() => {
  const { base, modules, views, languages } = CONFIG;
  let kept = null; // what the visitor chose, see components/language.js
  try {
    kept = localStorage.getItem("gptj-playground/language");
  } catch {
    // there is no storage: the browser's languages decide
  }
  const wanted = [kept, ...navigator.languages.map((name) => name.split("-")[0])];
  const language = wanted.find((name) => Object.hasOwn(languages, name)) ?? "en";
  const page = document.documentElement;
  Object.assign(page, { lang: language, dir: languages[language].direction });
  // Gradio puts the browser's language there when it starts, whichever language the page's texts have
  new MutationObserver(() => {
    if (page.lang !== language) page.lang = language;
  }).observe(page, { attributeFilter: ["lang"] });
  // the path under which a proxy may serve the page is in Gradio's root; the address bar has the right host
  const root = new URL(window.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
  const url = (path) => `${location.origin}${root}${base}${path}`;
  for (const path of modules) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "modulepreload", href: url(path) }));
  }
  window.gptj = {
    views,
    language,
    languages,
    controls: import(url("views/write/controls.js")), // for the panel, which is made of Gradio's components
    // Give a component's element to the module that brings it to life, in the order of the calls. Until
    // then it is hidden: nobody types into a field that nothing listens to.
    mount(path, component) {
      const { element } = component;
      const loading = Promise.all([import(url(path)), import(url("core/i18n.js"))]);
      element.style.visibility = "hidden";
      const show = () => element.style.removeProperty("visibility");
      const failed = (error) => {
        console.error(error);
        show();
        const textContent = languages[language].failed;
        element.prepend(Object.assign(document.createElement("p"), { textContent }));
      };
      mounted = mounted
        .then(() => loading)
        .then(([module, { translate, translated }]) => {
          translate(element);
          show();
          const server = new Proxy(component.server ?? {}, {
            get: (functions, name) => async (...given) => translated(await functions[name](...given)),
          });
          module.mount({ ...component, server });
        })
        .catch(failed);
    },
  };
  let mounted = import(url("components/page.js"));
})();
