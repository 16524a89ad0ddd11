import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    files: ["assets/{core,components,views}/**/*.js"],
    languageOptions: { ecmaVersion: 2025, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: ["error", "always"],
      "no-var": "error",
      "prefer-const": "error",
      "no-unused-vars": ["error", { varsIgnorePattern: "^_", caughtErrors: "none" }],
      "no-implicit-globals": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text of any origin is put in as text: use textContent." },
        { property: "outerHTML", message: "Text of any origin is put in as text: use textContent." },
        { property: "insertAdjacentHTML", message: "Text of any origin is put in as text: use textContent." },
      ],
      "max-lines": ["error", 400],
    },
  },
  {
    files: ["assets/core/**/*.js"],
    rules: { "no-restricted-globals": ["error", "element", "gptj"] },
  },
  { files: ["assets/boot.js"], languageOptions: { sourceType: "script", globals: { ...globals.browser, CONFIG: "readonly" } } },
  { files: ["tests/js/**/*.js"], languageOptions: { globals: globals.node } },
];
