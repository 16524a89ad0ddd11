/** @gradio/client: a call with names and defaults, a stream of updates, a cancelled call. */

import { Client } from "@gradio/client";
import { version } from "@gradio/client/package.json";

export const run = async (/** @type {string} */ url) => {
  const app = await Client.connect(url);
  const tokens = (await app.predict("/tokenize", { text: "Once upon a time" })).data[0];
  if (tokens.length < 2) throw new Error(`tokens ${JSON.stringify(tokens)}`);
  const asked = { prompt: "Once upon a time", max_new_tokens: 8, seed: 7 };
  let text = "";
  for await (const message of app.submit("/generate", asked)) {
    if (message.type === "data") text = message.data[0];
    if (message.type === "status" && message.stage === "error") throw new Error(message.message);
  }
  const again = (await app.predict("/generate", asked)).data[0];
  if (!text || text !== again) throw new Error(`streamed ${text}, then ${again}`);
  const long = app.submit("/generate", { prompt: "Once", max_new_tokens: 900, ignore_eos: true });
  for await (const message of long) {
    if (message.type === "data") {
      await long.cancel();
      break;
    }
  }
  const wrong = await app.predict("/generate", { prompt: "Once", temperature: 9 }).then(
    () => null,
    (error) => error,
  );
  if (!/temperature/.test(wrong?.message ?? "")) throw new Error(`no error: ${wrong?.message}`);
  return version;
};
