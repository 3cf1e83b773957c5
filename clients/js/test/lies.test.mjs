// A host that plays the frozen vectors, and each way in which it can lie about them: found out by name, at once and for good.
import assert from "node:assert/strict";
import { test } from "node:test";

import { MilepostError, Session } from "../milepost.mjs";
import { START, honest, host } from "./server.mjs";
import { ids, job, vectors } from "./stream.mjs";

const DEPOSITOR = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const code = (expected) => (error) => error instanceof MilepostError && error.code === expected;

/** A session as it was saved after the turn before: sixty tokens, no checkpoint yet. */
const before = () => ({ format: 1, job: { ...job, jobId: "163" }, salt: vectors.salt, given: START, ids: ids.slice(0, START), checkpoints: [], turns: [{ start: 0, requestId: "request-1" }] });

/** A client at this host, with what it signed and saved. */
async function client(url, more = {}) {
  const [signed, saved] = [[], []];
  const signTypedData = async ({ primaryType, message }) => {
    signed.push([primaryType, message]);
    return vectors.voucher.signed.signature;
  };
  const wallet = { address: DEPOSITOR, signTypedData };
  const terms = { ...job, depositor: DEPOSITOR, voucherSigner: DEPOSITOR, voucherAllowance: 32, saltCommitment: vectors.terms.saltCommitment, price: 2_000n, deposit: 2_000_000n };
  const session = await Session.open({ url, job: terms, wallet, state: before(), save: async (state) => saved.push(state), ...more });
  return { session, signed, saved };
}

const ask = { prompt: "on", maxTokens: 150, requestId: "request-2" };

test("an honest host's answer is taken, acknowledged, countersigned and saved before either", async () => {
  const server = await host(() => honest());
  try {
    const { session, signed, saved } = await client(server.url);
    const [tokens, sealed] = [[], []];
    const turn = await session.chat(ask, { on: { tokens: (some, text, at) => tokens.push([at, ...some]), sealed: (seal) => sealed.push(seal.number) } });
    assert.deepEqual([turn.start, turn.count, turn.finishReason], [START, 80, "length"]);
    assert.deepEqual(tokens.flatMap(([, ...some]) => some), ids.slice(START));
    assert.deepEqual(sealed, [0, 1]);
    assert.equal(turn.text, "60 70 80 90 100 110 120 130 137 ");
    // Half the allowance of 32 is reached with every second chunk of ten; the turn's end counts too.
    const vouchers = signed.filter(([kind]) => kind === "Voucher").map(([, message]) => Number(message.tokens));
    assert.deepEqual(vouchers, [80, 100, 120, 137, 140]);
    const given = () => server.heard.filter(({ type }) => type === "voucher").map(({ tokens: total }) => total);
    while (given().length < vouchers.length) await new Promise((resolve) => setTimeout(resolve, 5)); // the last one is under way
    assert.deepEqual(given(), vouchers);
    for (const { type, seq } of server.heard) if (type === "ack") assert.ok(saved.some((state) => state.ids.length >= seq), `${seq} was saved`);
    assert.equal(session.spent, 280_000n);
    assert.equal(session.left, 1_720_000n);
    await session.close();
    // What was saved is enough to go on elsewhere.
    const again = await client(server.url, { state: JSON.parse(JSON.stringify(saved.at(-1))) });
    assert.equal(again.session.tokens, 140);
    assert.equal(again.session.transcript.sealed, 137);
  } finally {
    server.close();
  }
});

test("a stream that is cut is taken up where it stood, without losing or repeating a token", async () => {
  const server = await host(async (request, number) => {
    const frames = await honest(request.resume_from ?? START, 4);
    return number < 4 ? [...frames.slice(0, 3 * number), "cut"] : frames;
  });
  try {
    const { session } = await client(server.url);
    const [shown, cuts] = [[], []];
    const turn = await session.chat(ask, { on: { tokens: (some) => shown.push(...some), reconnecting: (attempt) => cuts.push(attempt) } });
    assert.equal(turn.count, 80);
    assert.deepEqual(shown, ids.slice(START));
    assert.ok(cuts.length >= 3, `${cuts.length} cuts`);
    const resumed = server.heard.filter(({ type, request }) => type === "inference" && request.resume_from !== undefined);
    assert.ok(resumed.length >= 3 && resumed.every(({ request }) => request.prompt === undefined));
  } finally {
    server.close();
  }
});

test("a page that was closed in mid-stream collects the rest from what it saved", async () => {
  const server = await host((request) => honest(request.resume_from));
  try {
    const first = await client(server.url);
    const closed = new Error("the page was closed");
    const stop = (some, text, at) => {
      if (at >= 100) throw closed;
    };
    await assert.rejects(first.session.chat(ask, { on: { tokens: stop } }), closed);
    const held = first.saved.at(-1);
    assert.ok(held.active && held.ids.length > START && held.ids.length < 140, `${held.ids.length} tokens held`);
    const { session } = await client(server.url, { state: JSON.parse(JSON.stringify(held)) });
    await assert.rejects(session.chat({ prompt: "another" }), code("TurnOpen"));
    const turn = await session.resume();
    assert.deepEqual([turn.requestId, turn.start, turn.count], ["request-2", START, 80]);
    assert.equal(await session.resume(), undefined);
  } finally {
    server.close();
  }
});

/** Each lie: what it does to the honest frames, and how it is called. */
const chunk = (frames, at) => frames.filter(({ type }) => type === "stream_chunk")[at];
const end = (frames) => frames.at(-1);
const seal = (frames, at) => frames.filter(({ type }) => type === "checkpoint_sealed")[at];
const LIES = [
  ["a token is changed", "WrongHead", (frames) => (chunk(frames, 1).token_ids[3] += 1)],
  ["a token is dropped and the rest renumbered", "WrongHead", (frames) => {
    const short = chunk(frames, 1);
    short.token_ids.pop();
    short.tokens -= 1;
    frames.filter(({ seq }) => seq > short.seq).forEach((frame) => (frame.seq -= 1));
    chunk(frames, 8).token_ids.push(9);
    chunk(frames, 8).tokens += 1;
  }],
  ["a token is dropped", "Gap", (frames) => {
    chunk(frames, 1).token_ids.pop();
    chunk(frames, 1).tokens -= 1;
  }],
  ["two tokens change places", "WrongHead", (frames) => chunk(frames, 2).token_ids.reverse()],
  ["a token is repeated as another", "Rewritten", (frames) => {
    const next = chunk(frames, 3);
    next.seq -= 1;
    next.token_ids.unshift(1);
    next.tokens += 1;
  }],
  ["more tokens are counted than came", "WrongCount", (frames) => (chunk(frames, 0).tokens += 1)],
  ["the turn counts more tokens than came", "WrongCount", (frames) => (end(frames).tokens_used += 5)],
  ["an open token is changed", "ReceiptOpenDigest", (frames) => (chunk(frames, 8).token_ids[1] += 1)],
  ["a head is changed", "WrongHead", (frames) => (seal(frames, 1).head = vectors.genesis)],
  ["a turns digest is changed", "WrongHead", (frames) => (seal(frames, 0).turns_digest = vectors.genesis)],
  ["a seal is left out", "CheckpointNumber", (frames) => frames.splice(frames.indexOf(seal(frames, 0)), 1)],
  ["a seal begins elsewhere", "CheckpointStart", (frames) => (seal(frames, 1).first_seq -= 1)],
  ["a seal holds nothing", "CheckpointSize", (frames) => (seal(frames, 0).count = 0)],
  ["a seal is said twice, differently", "CheckpointChanged", (frames) => frames.splice(-1, 0, { ...seal(frames, 0), head: vectors.genesis })],
  ["the receipt claims more than came", "ReceiptCount", (frames) => (end(frames).receipt.open_tokens += 50)],
  ["the receipt is another job's", "ReceiptJob", (frames) => (end(frames).receipt.job_id = "164")],
  ["the receipt is another request's", "ReceiptRequest", (frames) => (end(frames).receipt.request_digest = vectors.genesis)],
  ["the receipt has another head", "ReceiptHead", (frames) => (end(frames).receipt.sealed_head = vectors.genesis)],
  ["the receipt's seal ends nowhere", "ReceiptBoundary", (frames) => Object.assign(end(frames).receipt, { sealed_tokens: 136, open_tokens: 4 })],
  ["the receipt is not signed", "Unsigned", (frames) => (end(frames).receipt.signature = null)],
  ["there is no receipt", "ReceiptMissing", (frames) => (end(frames).receipt = null)],
  ["the receipt is signed over something else", "WrongSigner", (frames) => (end(frames).receipt.signature = vectors.voucher.signed.signature)],
];

for (const [what, name, lie] of LIES) {
  test(`${what}: ${name}, and the session is stopped`, async () => {
    const server = await host(async () => {
      const frames = structuredClone(await honest());
      lie(frames);
      return frames;
    });
    try {
      const { session, signed, saved } = await client(server.url);
      await assert.rejects(session.chat(ask), code(name));
      assert.equal(saved.at(-1).stopped.code, name);
      const acknowledged = Math.max(START, ...signed.filter(([kind]) => kind === "Voucher").map(([, message]) => Number(message.tokens)));
      assert.ok(acknowledged <= session.tokens, `${acknowledged} countersigned of ${session.tokens} held`);
      await assert.rejects(session.chat({ prompt: "again" }), code("Stopped"));
      // Also for whoever takes it up from what was saved; ending it is all that is left.
      const again = await client(server.url, { state: JSON.parse(JSON.stringify(saved.at(-1))) });
      await assert.rejects(again.session.chat({ prompt: "again" }), code("Stopped"));
    } finally {
      server.close();
    }
  });
}

test("tokens that nobody asked for are neither kept nor countersigned", async () => {
  const server = await host(() => honest());
  try {
    const { session, signed } = await client(server.url);
    await assert.rejects(session.chat({ ...ask, maxTokens: 45 }), code("NotAskedFor"));
    assert.equal(session.tokens, 100);
    assert.ok(signed.every(([, message]) => message.tokens === undefined || message.tokens <= 100n));
  } finally {
    server.close();
  }
});

test("a host that lost what it delivered is found out when it is met again", async () => {
  const server = await host(() => honest());
  try {
    const state = { ...before(), ids: ids.slice(0, START + 1) };
    await assert.rejects(client(server.url, { state }), code("HostBehind"));
  } finally {
    server.close();
  }
});

test("a wallet, a salt or a voucher signer that is not the job's is refused before the host is asked", async () => {
  const server = await host(() => honest());
  try {
    await assert.rejects(client(server.url, { salt: `0x${"56".repeat(32)}` }), code("Terms"));
    const stranger = { address: `0x${"99".repeat(20)}`, signTypedData: async () => "0x" };
    await assert.rejects(client(server.url, { wallet: stranger }), code("Terms"));
    await assert.rejects(client(server.url, { voucherWallet: stranger }), code("Terms"));
    assert.equal(server.heard.length, 0);
  } finally {
    server.close();
  }
});
