// Runs first in the page's head: loads the modules. The server replaces CONFIG by {base, views, languages}.
// Gradio's event scripts and the tests use the global `gptj`.
(() => {
  const { base, views, languages } = CONFIG;
  let kept = null; // the visitor's choices, see components/language.js and components/theme.js
  let theme = new URLSearchParams(location.search).get("__theme"); // Gradio's parameter
  try {
    kept = localStorage.getItem("gptj-playground/language");
    theme ??= localStorage.getItem("gptj-playground/theme");
  } catch {
    // without storage, use the browser's settings
  }
  const wanted = [kept, ...navigator.languages.map((name) => name.split("-")[0])];
  const language = wanted.find((name) => Object.hasOwn(languages, name)) ?? "en";
  const page = document.documentElement;
  Object.assign(page, { lang: language, dir: languages[language].direction });
  // Gradio sets this to the browser's language when it starts, whatever language the page has
  new MutationObserver(() => {
    if (page.lang !== language) page.lang = language;
  }).observe(page, { attributeFilter: ["lang"] });
  // Gradio follows the system only, when it starts and whenever the system changes
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const isPrint = matchMedia("print"); // paper is light
  const paint = () => document.body.classList.toggle("dark", !isPrint.matches && (theme === "dark" || (theme !== "light" && isDark.matches)));
  isPrint.addEventListener("change", paint);
  const keepPainted = () => {
    paint();
    new MutationObserver(paint).observe(document.body, { attributeFilter: ["class"] });
  };
  if (document.body) keepPainted();
  else document.addEventListener("DOMContentLoaded", keepPainted);
  // Gradio's root has the path under a proxy; the address bar has the right host
  const root = new URL(window.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
  const url = (path) => `${location.origin}${root}${base}${path}`;
  const preload = (given) => document.head.append(Object.assign(document.createElement("link"), given));
  preload({ rel: "preload", as: "fetch", crossOrigin: "anonymous", href: url(`texts/${language}.json`) });
  const modules = import(url("modules.js"));
  const load = async (path) => (await modules).load(path);
  // Gradio renders the components one after another, and a module may use elements of another component. So no
  // module is mounted before all components have called `mount`. The page of a login has no components.
  const components = window.gradio_config?.components ?? [];
  let missing = components.filter(({ props }) => String(props?.js_on_load ?? "").startsWith("gptj.mount(")).length;
  let begin;
  const isRendered = new Promise((resolve) => {
    begin = () => setTimeout(resolve); // after Gradio has rendered what belongs to the last one
  });
  window.gptj = {
    load,
    views,
    language,
    languages,
    get theme() {
      return theme ?? "system";
    },
    setTheme(name) {
      theme = name;
      paint();
    },
    controls: load("views/write/controls.js"), // for the panel of Gradio's components
    // Pass a component's element to its module, in the order of the calls. It is hidden until then, so
    // that no input is lost.
    mount(path, component) {
      missing -= 1;
      if (missing <= 0) begin();
      const { element } = component;
      const loading = Promise.all([load(path), load("core/i18n.js"), isRendered]);
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
  let mounted = load("components/page.js");
})();
