// OpenAI's SDK for Node through the gateway.
// OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=… node openai_sdk.mjs
import OpenAI from "openai";

const client = new OpenAI();

const answer = await client.chat.completions.create({
  model: "turnout",
  messages: [{ role: "user", content: "Prove that the square root of 2 is irrational." }],
});
console.log("chat:", answer.choices[0].message.content);

let text = "";
for await (const event of await client.responses.create({ model: "turnout", input: "Hello!", stream: true })) {
  if (event.type === "response.output_text.delta") text += event.delta;
}
console.log("responses:", text);
