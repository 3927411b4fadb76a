// Drives a server through Vercel's `ai` with @ai-sdk/openai-compatible: arguments: base URL, key.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateText, Output, streamText, tool } from "ai";
import { z } from "zod";

const [url, apiKey] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "chatwright", baseURL: `${url}/v1`, apiKey, includeUsage: true, supportsStructuredOutputs: true });

const plain = await generateText({ model: provider("scripted"), prompt: "hi", maxRetries: 0 });
assert.equal(plain.text, "Hello there");
assert.equal(plain.usage.outputTokens, 11);
assert.equal(plain.finishReason, "stop");

const streamed = streamText({ model: provider("scripted"), prompt: "hi", maxRetries: 0 });
let text = "";
for await (const part of streamed.textStream) text += part;
assert.equal(text, "Hello there");
assert.equal((await streamed.usage).inputTokens, 2);

const real = await generateText({ model: provider("tiny"), prompt: "hi", maxOutputTokens: 8, temperature: 0, maxRetries: 0 });
assert.ok(real.usage.outputTokens >= 1 && real.usage.outputTokens <= 8);

const add = tool({ description: "adds", inputSchema: z.object({ a: z.number(), b: z.number() }), execute: async ({ a, b }) => a + b });
const called = await generateText({ model: provider("caller"), prompt: "hi", tools: { add }, maxRetries: 0 });
assert.deepEqual(called.toolCalls[0].input, { a: 1, b: 2 });
assert.equal(called.toolResults[0].output, 3);
assert.equal(called.finishReason, "tool-calls");
const calling = streamText({ model: provider("caller"), prompt: "hi", tools: { add }, maxRetries: 0 });
assert.deepEqual((await calling.toolCalls)[0].input, { a: 1, b: 2 });
assert.equal((await calling.toolResults)[0].output, 3);

const city = await generateText({ model: provider("json"), prompt: "hi", output: Output.object({ schema: z.object({ city: z.string() }) }), maxRetries: 0 });
assert.deepEqual(city.output, { city: "Paris" });

const vectors = await embedMany({ model: provider.textEmbeddingModel("tiny"), values: ["a", "b"], maxRetries: 0 });
assert.equal(vectors.embeddings[1].length, 32);

await assert.rejects(generateText({ model: provider("nope"), prompt: "hi", maxRetries: 0 }), (error) => APICallError.isInstance(error) && error.statusCode === 404 && /not served/.test(error.message));
console.log(JSON.stringify({ text }));
