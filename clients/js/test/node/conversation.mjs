// The client against a running node on a dev chain whose accounts are unlocked: funding, stream, cut, vouchers, cancel, payout. Started by
// crates/milepost/tests/clients, which says where both are.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Chain, Session, Status, fromProvider, fund } from "../../milepost.mjs";

const { MILEPOST_URL: url, RPC_URL: rpc, MARKETPLACE: marketplace, HOST: host, TOKEN: token, MODEL_DIGEST: modelDigest, DEPOSITOR: depositor } = process.env;

const chain = new Chain(rpc, marketplace);
const wallet = fromProvider({ request: ({ method, params }) => chain.request(method, params) }, depositor);

/** Sessions of this file: a connection that stays open after a failure would keep the process from telling of it. */
const sessions = [];
after(() => sessions.forEach((session) => session.disconnect()));
const opened = async (options) => {
  const session = await Session.open(options);
  sessions.push(session);
  return session;
};

/** Greeting, acknowledgement, and the first tokens. */
const BREAK_AFTER = 4;

/** A WebSocket whose connection breaks after so many frames; the next ones hold. */
function breaking(after) {
  let left = after;
  return class extends WebSocket {
    set onmessage(take) {
      super.onmessage = take && ((event) => {
        left -= 1;
        if (left === 0) return this.close();
        if (left > 0 || this.whole) take(event);
      });
      this.whole ||= left <= 0;
    }
  };
}

test("a session is funded, followed token by token through a cut, countersigned, and paid to the unit", async () => {
  let kept;
  const { jobId, salt } = await fund({ rpc, marketplace, wallet, terms: { host, token, deposit: 2_000_000n, modelDigest, maxPrice: 2_000n, allowance: 48 }, keep: async (secret) => (kept = secret) });
  assert.equal(kept, salt);
  const saved = [];
  const session = await opened({ url, rpc, marketplace, jobId, salt, wallet, save: async (state) => saved.push(state), WebSocket: breaking(BREAK_AFTER) });
  assert.equal(session.job.head, session.transcript.genesis, "the contract derived the same first head");

  let reconnects = 0;
  const shown = [];
  const on = { tokens: (some) => shown.push(...some), reconnecting: () => (reconnects += 1) };
  const first = await session.chat({ prompt: "tell me", maxTokens: 150 }, { on });
  // A host stops within a step of losing its client, unless it was done: what was made by then is all there.
  assert.ok(first.count > 0 && first.count <= 150 && ["length", "disconnected"].includes(first.finishReason), `${first.count}, ${first.finishReason}`);
  assert.ok(reconnects >= 1, "the connection broke once");
  assert.deepEqual(shown, session.transcript.ids, "each token was shown once, in order");
  assert.equal(session.given, first.count, "countersigned at the turn's end");

  const controller = new AbortController();
  const stop = { tokens: () => session.tokens >= first.count + 20 && controller.abort() };
  const second = await session.chat({ prompt: "and on", maxTokens: 400 }, { on: stop, signal: controller.signal });
  assert.equal(second.finishReason, "cancelled");
  assert.ok(second.count < 400 && second.receipt.signature, "a receipt over what came");

  // Taken up elsewhere from what was saved.
  const again = await opened({ url, rpc, marketplace, jobId, wallet, state: JSON.parse(JSON.stringify(saved.at(-1))), save: async (state) => saved.push(state) });
  assert.equal(again.tokens, session.tokens);
  session.disconnect();
  const third = await again.chat({ prompt: "the end", maxTokens: 130 });
  assert.deepEqual([third.count, third.finishReason], [130, "length"]);
  assert.ok(again.transcript.sealed >= 100, "sealed, and recomputed");
  await again.close();
  assert.equal(again.transcript.sealed, again.tokens);
  const paid = await again.waitPaid(120_000);
  assert.equal(paid.tokens, again.tokens);
  const job = await again.compareWithChain();
  assert.equal(job.status, Status.COMPLETED);
  assert.ok(job.voucherTokens <= again.given);
  console.log(`figure ${again.tokens} tokens received, ${paid.tokens} paid: host ${paid.host}, treasury ${paid.treasury}, refund ${paid.refund}; ${reconnects} cut taken up`);
});

test("a job of somebody else, or one that does not exist, is refused before the host is asked", async () => {
  const stranger = fromProvider({ request: () => assert.fail("nothing is signed") }, host);
  const open = (jobId, who) => Session.open({ url, rpc, marketplace, jobId, wallet: who });
  await assert.rejects(open(1, stranger), { code: "Terms" });
  await assert.rejects(open(999_999, wallet), { code: "Terms" });
  await assert.rejects(fund({ rpc, marketplace, wallet, terms: { host, token, deposit: 1n, modelDigest, maxPrice: 1n } }), { code: "Price" });
});
