// The frozen vectors as a host would stream them.
import { readFileSync } from "node:fs";

import { requestDigest } from "../milepost.mjs";

export const vectors = JSON.parse(readFileSync(new URL("../../../crates/statement/vectors/v1.json", import.meta.url), "utf8"));

const { chainId, marketplace, jobId, host, modelDigest } = vectors.terms;
/** The job, as a client without a chain is told it. */
export const job = { chainId, marketplace, jobId: BigInt(jobId), host, modelDigest };

/** Announcements. */
export const seals = vectors.checkpoints.map(({ firstSeq, ids, turnsDigest, head }, number) => ({ number, first_seq: firstSeq, count: ids.length, turns_digest: turnsDigest, head }));

/** Every token. */
export const ids = [...vectors.checkpoints.flatMap((checkpoint) => checkpoint.ids), ...vectors.open.ids];

/** The receipt of the turn `request-2`, which begins at token 60. */
export const receipt = {
  request_digest: await requestDigest("request-2"),
  job_id: String(jobId),
  request_id: "request-2",
  sealed_head: seals[1].head,
  sealed_tokens: 137,
  open_tokens: 3,
  open_digest: vectors.open.digest,
  signature: vectors.turnReceipt.signed.signature,
};
