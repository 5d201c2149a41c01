// Anthropic's SDK for Node through the gateway.
// ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_API_KEY=… node anthropic_sdk.mjs
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic();

const stream = client.messages.stream({
  model: "turnout",
  max_tokens: 1000,
  messages: [{ role: "user", content: "Prove that the square root of 2 is irrational." }],
});
const message = await stream.finalMessage();
console.log("messages:", message.content.map((block) => block.text ?? "").join(""));
