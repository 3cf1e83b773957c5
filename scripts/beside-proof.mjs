// What a proof costs the inference beside it, and inference the proof: tokens a second of a node that serves a real model, alone, beside a
// proof, and alone again; and the seconds that the proof took meanwhile. Reference and measurement are of the same run.
//
//   node scripts/beside-proof.mjs BIN_FOLDER MODEL [TOKENS_OF_THE_CLAIM]
//
// The proof runs as the node runs its prover: a process of its own, nice 10. Exit code 0 where both goals are reached, 1 where not, 2 where
// nothing could be measured.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** Inference may slow by this much. */
const MOST_SLOWER = 0.1;
/** What admission counts for a full claim's proof (`gateway.proof_seconds`): longer, and closing windows would hold fewer than are admitted. */
const DEADLINE_SECONDS = 70;
/** Tokens of an answer: some seconds of decoding. */
const ANSWER_TOKENS = 200;
/** Answers before the proof and after it; one to warm up. */
const ROUNDS = 4;
const START_MS = 120_000;
/** Answers beside one proof, at most: an hour's worth would mean that the proof hangs. */
const MAX_BESIDE = 400;

const [bin, model, tokens = "1000"] = process.argv.slice(2);

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

/** Tokens a second of one answer, from its first token on: the prompt's evaluation is not decoding. */
async function answer(url, number) {
  const body = { model: undefined, prompt: `Story number ${number}. Once upon a time`, max_tokens: ANSWER_TOKENS, temperature: 0.8, seed: number, stream: true, request_id: `beside-${number}` };
  const { data } = await (await fetch(`${url}/v1/models`)).json();
  const response = await fetch(`${url}/v1/inference`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ...body, model: data[0].id }) });
  if (!response.ok) throw new Error(`the node answers ${response.status}: ${await response.text()}`);
  let [count, first, last, text] = [0, undefined, undefined, ""];
  for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
    text += bytes;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const { tokens: some = 0 } = JSON.parse(event.replace(/^data: /, ""));
      if (some === 0) continue;
      last = performance.now();
      if (first === undefined) first = last;
      else count += some;
    }
  }
  return count / ((last - first) / 1_000);
}

const median = (rates) => [...rates].sort((a, b) => a - b)[Math.floor(rates.length / 2)];

const port = await freePort();
const url = `http://127.0.0.1:${port}`;
const settings = [`node.listen=127.0.0.1:${port}`, "node.store=memory", "model.engine=llama", `model.path=${model}`].flatMap((set) => ["--set", set]);
const node = spawn(`${bin}/milepost`, ["serve", "--json", ...settings], { stdio: "ignore" });
let ended;
node.on("exit", (code) => (ended = code ?? "a signal"));
try {
  for (const begin = Date.now(); ; await pause(200)) {
    if (ended !== undefined) throw new Error(`the node ended with ${ended}`);
    if (Date.now() - begin > START_MS) throw new Error("the node does not begin to serve");
    if (await fetch(`${url}/health`).then((response) => response.ok, () => false)) break;
  }
  let number = 0;
  const measure = async (rounds) => {
    const rates = [];
    for (let round = 0; round < rounds; round += 1) rates.push(await answer(url, (number += 1)));
    return rates;
  };
  await measure(1);
  const before = await measure(ROUNDS);

  const proof = spawn("nice", ["-n", "10", `${bin}/milepost-prover`, "bench", tokens], { stdio: ["ignore", "pipe", "inherit"] });
  let [table, done] = ["", false];
  proof.stdout.on("data", (data) => (table += data));
  const proven = new Promise((resolve) => proof.on("exit", (code) => resolve(((done = true), code))));
  const beside = [];
  while (!done && beside.length < MAX_BESIDE) {
    const rate = await answer(url, (number += 1));
    if (!done) beside.push(rate); // an answer that outlasted the proof ran beside nothing for a part of it
  }
  const code = await proven;
  if (code !== 0 || beside.length === 0) throw new Error(`the prover ended with ${code} beside ${beside.length} answers`);
  const after = await measure(ROUNDS);

  const words = (line) => line.trim().split(/\s+/);
  const lines = table.trim().split("\n");
  const header = lines.map(words).find(([first]) => first === "tokens") ?? [];
  const row = words(lines.at(-1));
  const seconds = Number(row[header.indexOf("seconds")]);
  if (row[0] !== tokens || !(seconds > 0)) throw new Error(`the prover tells no seconds of ${tokens} tokens:\n${table}`);
  const [alone, together] = [median([...before, ...after]), median(beside)];
  const slower = 1 - together / alone;
  console.log(`figure inference alone ${alone.toFixed(1)} tokens/s (median of ${before.length + after.length} answers, before and after), beside a proof ${together.toFixed(1)} (of ${beside.length}): slower by ${(100 * slower).toFixed(1)} %, goal ${100 * MOST_SLOWER} %`);
  console.log(`figure the proof of ${tokens} tokens took ${seconds} s beside inference, goal ${DEADLINE_SECONDS} s`);
  process.exitCode = slower <= MOST_SLOWER && seconds <= DEADLINE_SECONDS ? 0 : 1;
} catch (error) {
  console.error(`nothing measured: ${error.message}`);
  process.exitCode = 2;
} finally {
  node.kill("SIGTERM");
}
