// In the page's head, before anything else: finds the modules' address and loads them. CONFIG is replaced
// by the server: {base, modules, views}. `gptj` is what Gradio's event scripts and tests reach the page by.
(() => {
  const { base, modules, views } = CONFIG;
  // the path under which a proxy may serve the page is in Gradio's root; the address bar has the right host
  const root = new URL(window.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
  const url = (path) => `${location.origin}${root}${base}${path}`;
  for (const path of modules) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "modulepreload", href: url(path) }));
  }
  window.gptj = {
    views,
    controls: import(url("views/write/controls.js")), // for the panel, which is made of Gradio's components
    // Give a component's element to the module that brings it to life, in the order of the calls. Until
    // then it is hidden: nobody types into a field that nothing listens to.
    mount(path, component) {
      const { element } = component;
      const loading = import(url(path));
      element.style.visibility = "hidden";
      const show = () => element.style.removeProperty("visibility");
      const failed = (error) => {
        console.error(error);
        show();
        const message = "This part of the page could not be loaded. Reload the page to try again.";
        element.prepend(Object.assign(document.createElement("p"), { textContent: message }));
      };
      mounted = mounted
        .then(() => loading)
        .then((module) => {
          show();
          module.mount(component);
        })
        .catch(failed);
    },
  };
  let mounted = import(url("components/page.js"));
})();
