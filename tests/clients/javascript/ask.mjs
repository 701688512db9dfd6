// Asks with Microsoft's JavaScript client, as its documentation has it, and prints what came back as JSON.
// The environment holds the endpoint, the key and an image as a data URL.
import ModelClient, { isUnexpected } from "@azure-rest/ai-inference";
import { AzureKeyCredential } from "@azure/core-auth";

const { ENDPOINT, KEY, IMAGE } = process.env;
const key = { "x-functions-key": KEY };
// The app is on this machine: elsewhere it is https, and the option is not needed.
const client = ModelClient(ENDPOINT, new AzureKeyCredential("unused"), { allowInsecureConnection: true });

async function ask(route, body, headers = {}) {
  const response = await client.path(route).post({ body, headers: { ...key, ...headers } });
  const vectors = isUnexpected(response) ? null : response.body.data.map(({ embedding }) => embedding);
  return { status: Number(response.status), vectors, usage: response.body.usage, error: response.body.error };
}

const image = { image: IMAGE };
const answers = {
  info: (await client.path("/info").get({ headers: key })).body,
  image: await ask("/images/embeddings", { input: [image], model: "embed-v-4-0", input_type: "document" }),
  pair: await ask("/images/embeddings", { input: [{ ...image, text: "a red thing" }], dimensions: 256 }),
  texts: await ask("/embeddings", { input: ["a red thing", "a blue thing"], encoding_format: "int8" }),
  base64: await ask("/embeddings", { input: ["a red thing"], encoding_format: "base64" }),
  extras: await ask("/embeddings", { input: ["a red thing"], truncate: "END" }, { "extra-parameters": "pass-through" }),
  bad: await ask("/embeddings", { input: ["a red thing", " "] }),
};
console.log(JSON.stringify(answers));
