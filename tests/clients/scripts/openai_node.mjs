// Drives a server through the `openai` package of npm: arguments: base URL, key.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const add = { type: "function", function: { name: "add", parameters: { type: "object", properties: { a: { type: "integer" } } } } };

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models, ["tiny", "scripted", "caller", "json"]);

const answer = await client.chat.completions.create({ model: "tiny", messages, n: 2, max_tokens: 6, logprobs: true, top_logprobs: 2 });
assert.equal(answer.choices.length, 2);
assert.equal(answer.choices[1].logprobs.content[0].top_logprobs.length, 2);
assert.ok(answer._request_id);

let text = "", usage = null;
const stream = await client.chat.completions.create({ model: "scripted", messages, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, "Hello there");
assert.equal(usage.completion_tokens, 11);

const helper = client.chat.completions.stream({ model: "caller", messages, tools: [add] });
const final = await helper.finalChatCompletion();
assert.deepEqual(JSON.parse(final.choices[0].message.tool_calls[0].function.arguments), { a: 1, b: 2 });
assert.equal(final.choices[0].finish_reason, "tool_calls");

const vectors = await client.embeddings.create({ model: "tiny", input: ["a", "b"] });
assert.equal(vectors.data[1].embedding.length, 32);
const completion = await client.completions.create({ model: "tiny", prompt: "The", echo: true, logprobs: 1, max_tokens: 1 });
assert.equal(completion.choices[0].logprobs.token_logprobs[0], null);

const reply = await client.responses.create({ model: "scripted", input: "hi" });
assert.equal(reply.output_text, "Hello there");
const kinds = [];
for await (const event of await client.responses.create({ model: "scripted", input: "hi", stream: true })) kinds.push(event.type);
assert.equal(kinds.at(-1), "response.completed");

await assert.rejects(client.chat.completions.create({ model: "nope", messages }), (error) => {
  assert.ok(error instanceof OpenAI.NotFoundError);
  assert.equal(error.code, "model_not_found");
  return true;
});
await assert.rejects(client.chat.completions.create({ model: "tiny", messages, n: 9 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "n");

// Leaving a stream early must not hurt the next request.
for await (const _ of await client.chat.completions.create({ model: "tiny", messages, stream: true, max_tokens: 500 })) break;
assert.equal((await client.chat.completions.create({ model: "scripted", messages })).choices[0].message.content, "Hello there");
console.log(JSON.stringify({ models }));
