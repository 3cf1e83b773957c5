// The frozen vectors (crates/statement/vectors/v1.json), as Rust and Solidity are held against them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { MilepostError, Transcript, checkpointHead, genesisHead, keccak256, hexOf, openDigest, recover, requestDigest, saltCommitment, turnsDigest, typedDigest } from "../milepost.mjs";
import { job, receipt, seals, vectors } from "./stream.mjs";

const code = (expected) => (error) => error instanceof MilepostError && error.code === expected;

test("keccak256 is Ethereum's, also at the edges of a block", () => {
  assert.equal(hexOf(keccak256(new Uint8Array())), "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
  // Two inputs that differ only beyond a block's edge differ, and each length is padded in its own way.
  const digests = [134, 135, 136, 137, 271, 272, 273].map((length) => hexOf(keccak256(new Uint8Array(length))));
  assert.equal(new Set(digests).size, digests.length);
  assert.equal(hexOf(keccak256(new TextEncoder().encode("Transfer(address,address,uint256)"))), "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
});

test("heads and digests are those of the vectors", async () => {
  assert.equal(await saltCommitment(vectors.salt), vectors.terms.saltCommitment);
  assert.equal(await saltCommitment(`0x${"00".repeat(32)}`), `0x${"00".repeat(32)}`);
  let head = await genesisHead(job, vectors.terms.saltCommitment);
  assert.equal(head, vectors.genesis);
  for (const { firstSeq, ids, turns, turnsDigest: digest, head: after } of vectors.checkpoints) {
    const listed = await Promise.all(turns.map(async ({ start, request }) => ({ start, prompt: vectors.prompt.digest, sampler: vectors.sampler.digest, request: await requestDigest(request) })));
    assert.equal(await turnsDigest(vectors.salt, firstSeq, listed), digest);
    head = await checkpointHead(head, firstSeq, digest, ids);
    assert.equal(head, after);
  }
  assert.equal(await openDigest(head, vectors.open.firstSeq, vectors.open.ids), vectors.open.digest);
});

test("what is signed has the vectors' digests, and their signatures name their signer", async () => {
  const messages = {
    Voucher: [{ jobId: job.jobId, tokens: 137 }, vectors.voucher.signed],
    SessionOpen: [{ jobId: job.jobId, challenge: vectors.sessionOpen.challenge, expiresAt: vectors.sessionOpen.expiresAt }, vectors.sessionOpen.signed],
    TurnReceipt: [
      { jobId: job.jobId, requestDigest: await requestDigest("request-2"), sealedHead: seals[1].head, sealedTokens: 137, openTokens: 3, openDigest: vectors.open.digest },
      vectors.turnReceipt.signed,
    ],
  };
  for (const [kind, [message, signed]] of Object.entries(messages)) {
    const digest = typedDigest(job, kind, message);
    assert.equal(digest, signed.digest, kind);
    assert.equal(recover(digest, signed.signature), signed.signer.toLowerCase(), kind);
    const low = `${signed.signature.slice(0, -2)}${(parseInt(signed.signature.slice(-2), 16) - 27).toString(16).padStart(2, "0")}`;
    assert.equal(recover(digest, low), signed.signer.toLowerCase(), "v of 0 and 1 counts too");
  }
});

test("a signature in another form, of another text or of no key is refused", () => {
  const { digest, signature, signer } = vectors.voucher.signed;
  const other = `0x${"11".repeat(32)}`;
  assert.notEqual(recover(other, signature), signer.toLowerCase());
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const [r, s, v] = [signature.slice(2, 66), BigInt(`0x${signature.slice(66, 130)}`), parseInt(signature.slice(130), 16)];
  const malleable = `0x${r}${(order - s).toString(16).padStart(64, "0")}${(55 - v).toString(16)}`;
  for (const bad of [malleable, signature.slice(0, -2), `${signature.slice(0, -2)}1d`, `0x${"00".repeat(64)}1b`, `0x${"ff".repeat(64)}1b`]) {
    assert.throws(() => recover(digest, bad), code("Signature"), bad);
  }
});

test("the vectors' stream is taken however it is cut, and its receipt fits", async () => {
  const ids = [...vectors.checkpoints.flatMap((checkpoint) => checkpoint.ids), ...vectors.open.ids];
  for (const size of [1, 7, 100, 140]) {
    const transcript = await Transcript.create(job, vectors.salt);
    for (const seal of seals) await transcript.announce(seal);
    for (let at = 0; at < ids.length; at += size) await transcript.receive(at, ids.slice(at, at + size));
    assert.equal(transcript.sealed, 137);
    await transcript.checkReceipt("request-2", receipt);
    transcript.checkChain(0, vectors.genesis);
    transcript.checkChain(100, seals[0].head);
    transcript.checkChain(137, seals[1].head);
    assert.throws(() => transcript.checkChain(137, seals[0].head), code("ChainHead"));
    assert.throws(() => transcript.checkChain(120, seals[0].head), code("ChainBoundary"));
    assert.throws(() => transcript.checkChain(139, seals[1].head), code("MissingCheckpoints"));
    assert.throws(() => transcript.checkChain(141, seals[1].head), code("ChainBeyond"));
  }
});
