// The client at a host that delivers fewer tokens than it meters and claims (crates/milepost/tests/clients/skimmer.rs). What must be found is in
// EXPECTED; the last line printed tells what the client holds and has countersigned.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Chain, Session, fromProvider, fund } from "../../milepost.mjs";

const { MILEPOST_URL: url, RPC_URL: rpc, MARKETPLACE: marketplace, HOST: host, TOKEN: token, MODEL_DIGEST: modelDigest, DEPOSITOR: depositor, EXPECTED: expected, TOKENS: tokens } = process.env;

const chain = new Chain(rpc, marketplace);
const wallet = fromProvider({ request: ({ method, params }) => chain.request(method, params) }, depositor);

/** A connection that stays open after a failure would keep the process from telling of it. */
let session;
after(() => session?.disconnect());

test(`a host that meters more than it delivers is found out: ${expected}`, async () => {
  const { jobId, salt } = await fund({ rpc, marketplace, wallet, terms: { host, token, deposit: 2_000_000n, modelDigest, allowance: 40 } });
  session = await Session.open({ url, rpc, marketplace, jobId, salt, wallet });
  await assert.rejects(session.chat({ prompt: "count", maxTokens: Number(tokens) }), { code: expected });
  assert.ok(session.given <= session.tokens, "never more than it holds");
  await assert.rejects(session.chat({ prompt: "again" }), { code: "Stopped" });
  console.log(`held ${JSON.stringify({ job: String(jobId), tokens: session.tokens, given: session.given })}`);
});
