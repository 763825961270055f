// Asks the gateway at the address given with OpenAI's own client, and prints what came of it as one line of JSON.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: "Where are the birds?" }];

const whole = await client.chat.completions.create({ model: "qwen", messages });

let streamed = "";
for await (const chunk of await client.chat.completions.create({ model: "qwen", messages, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}

let broken = "";
try {
  for await (const chunk of await client.chat.completions.create({ model: "dying", messages, stream: true })) {
    broken += chunk.choices[0]?.delta?.content ?? "";
  }
} catch (error) {
  broken = error.code;
}

let unknown = {};
try {
  await client.chat.completions.create({ model: "nonesuch", messages });
} catch (error) {
  unknown = { status: error.status, code: error.code, param: error.param };
}

const vectors = await client.embeddings.create({ model: "minilm", input: ["one two", "three"] });

const file = await toFile(Buffer.from("RIFF".repeat(1000)), "speech.wav");
const heard = await client.audio.transcriptions.create({
  file,
  model: "whisper",
  response_format: "verbose_json",
  timestamp_granularities: ["word"],
});

console.log(
  JSON.stringify({
    said: whole.choices[0].message.content,
    streamed,
    broken,
    unknown,
    heard: { text: heard.text, words: heard.words },
    vectors: vectors.data.map((each) => each.embedding),
  }),
);
