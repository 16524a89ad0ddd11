/** openai of npm: models, a completion, a stream, an error with the headers that a page may read. */

import OpenAI from "openai";
import { VERSION } from "openai/version";

export const run = async (/** @type {string} */ url) => {
  const client = new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: "none",
    maxRetries: 0,
    dangerouslyAllowBrowser: true,
  });
  const model = (await client.models.list()).data[0].id;
  const body = { model, prompt: "Once upon a time", max_tokens: 8, seed: 7 };
  const whole = await client.completions.create({ ...body, logprobs: 2 });
  let streamed = "";
  for await (const chunk of await client.completions.create({ ...body, stream: true })) {
    streamed += chunk.choices[0].text;
  }
  if (!streamed || streamed !== whole.choices[0].text) throw new Error(`streamed ${streamed}`);
  const wrong = await client.completions
    .create({ ...body, temperature: 9 })
    .then(() => null, (error) => error);
  if (!(wrong instanceof OpenAI.BadRequestError)) throw new Error(`no error: ${wrong}`);
  if (wrong.param !== "temperature" || !wrong.requestID) throw new Error(`${wrong.requestID}`);
  return VERSION;
};
