// The paying client of a Milepost host, in one file: for browsers and Node, without dependencies.
//
// It opens a session on a job that was funded on chain, streams answers, and holds everything the host says against the token
// ids it received: each checkpoint's head is recomputed, each turn's receipt must be signed by the job's host and name exactly
// these tokens, and at the end the chain must say the same. The first thing that does not fit is a `MilepostError` with a code
// and stops the session for good. Vouchers are countersigned for tokens held, never for more.
//
// Guarantees: nothing is acknowledged or countersigned that was not checked and handed to `save`. A position that was received
// never changes. Does not: say that the model produced the tokens, nor keep anything itself: without `save` a closed page forgets
// the session (its deposit comes back by `closeOnChain` and `finalize`).
//
// Hashes, receipts and vouchers: docs/statement.md. Doors: crates/gateway/DOORS.md. How to use it: README.md beside this file.

/** Most tokens of a checkpoint (docs/statement.md). */
const MAX_CHECKPOINT_TOKENS = 65_536;
/** Announcements that may wait for their tokens: a host announces a seal right before or after its tokens. */
const MAX_PENDING = 64;
/** Frames that may wait to be checked: a host has at most its window of unacknowledged tokens under way. */
const MAX_QUEUED_FRAMES = 4_096;
/** Longest frame taken from a host, characters. A chunk is a few hundred, a replayed answer some tens of thousands. */
const MAX_FRAME = 4 * 1024 * 1024;
/** Tokens after which an acknowledgement is due, where the host's window does not ask for one sooner. */
const ACK_EVERY = 16;
/** Connection, or answer to `session_init`. */
const SETUP_MS = 30_000;
/** The first token: a long prompt on a busy host. */
const FIRST_TOKEN_MS = 180_000;
/** Any further one. */
const NEXT_TOKEN_MS = 60_000;
/** Attempts to take up a cut stream without a new token in between; with the pauses about two minutes. */
const MAX_ATTEMPTS = 30;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** Pages of checkpoints asked for, a thousand each. */
const MAX_PAGES = 1_000;
/** How long a transaction is waited for, and how often it is looked for. */
const MINED_MS = 120_000;
const POLL_MS = 500;
const ZERO_ADDRESS = `0x${"00".repeat(20)}`;
const ZERO_DIGEST = `0x${"00".repeat(32)}`;
/** Status of a job on chain. */
export const Status = Object.freeze({ NONE: 0, ACTIVE: 1, CLOSING: 2, COMPLETED: 3 });

/**
 * What went wrong. `code` is stable. Codes of what a host can get wrong, each of which stops the session:
 * Gap, Rewritten, NotAskedFor, WrongCount, HostBehind, CheckpointNumber, CheckpointStart, CheckpointSize, CheckpointChanged,
 * TooManyAnnounced, WrongHead, WrongTurns, ForeignTurn, ReceiptMissing, ReceiptJob, ReceiptRequest, ReceiptCount, MissingCheckpoints,
 * ReceiptBoundary, ReceiptHead, ReceiptOpenDigest, Unsigned, Signature, WrongSigner, ChainBeyond, ChainHead, ChainBoundary,
 * ChainVoucher, Payout. Others: Host (a refusal, with `details.code`), HostUnreachable, Silent, Cut, Protocol, Rpc, Reverted,
 * Terms, Price, NotMined, Stopped, TurnOpen, NotPaid, Usage.
 */
export class MilepostError extends Error {
  constructor(code, message, details = {}) {
    super(message);
    this.name = "MilepostError";
    this.code = code;
    this.details = details;
  }
}

const fail = (code, message, details) => {
  throw new MilepostError(code, message, details);
};

// ---------------------------------------------------------------------------------------------------------------- bytes

const encoder = new TextEncoder();
const ascii = (text) => encoder.encode(text);

/** `0x…` as bytes; refuses anything else. */
export function bytesOf(hex, length) {
  if (typeof hex !== "string" || !/^0x([0-9a-fA-F]{2})*$/.test(hex)) fail("Protocol", `${String(hex).slice(0, 80)} is not 0x and hexadecimal digits`);
  const bytes = new Uint8Array((hex.length - 2) / 2);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = parseInt(hex.slice(2 + 2 * i, 4 + 2 * i), 16);
  if (length !== undefined && bytes.length !== length) fail("Protocol", `${hex.slice(0, 80)} has ${bytes.length} bytes, not ${length}`);
  return bytes;
}

/** Bytes as `0x…`, lower case. */
export const hexOf = (bytes) => `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;

function concat(...parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const same = (a, b) => String(a).toLowerCase() === String(b).toLowerCase();
const toBig = (bytes) => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

function word(value) {
  const out = new Uint8Array(32);
  let rest = BigInt(value);
  if (rest < 0n || rest >= 1n << 256n) fail("Usage", `${value} is no 256-bit number`);
  for (let i = 31; rest > 0n; i -= 1, rest >>= 8n) out[i] = Number(rest & 0xffn);
  return out;
}

const addressWord = (address) => concat(new Uint8Array(12), bytesOf(address, 20));

function u64le(value) {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(value), true);
  return out;
}

function u32le(values) {
  const out = new Uint8Array(4 * values.length);
  const view = new DataView(out.buffer);
  values.forEach((value, i) => view.setUint32(4 * i, value, true));
  return out;
}

/** A whole number that JavaScript counts exactly. */
function whole(value, what) {
  if (!Number.isSafeInteger(value) || value < 0) fail("Protocol", `${what} is ${String(value).slice(0, 40)}, not a whole number`);
  return value;
}

function tokenIds(values) {
  if (!Array.isArray(values) || values.some((id) => !Number.isInteger(id) || id < 0 || id > 0xffff_ffff)) fail("Protocol", "token_ids are no list of 32-bit numbers");
  return values;
}

// --------------------------------------------------------------------------------------------------------------- hashes

async function sha256(...parts) {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) fail("Usage", "WebCrypto is missing: a page needs https, or localhost");
  return hexOf(new Uint8Array(await subtle.digest("SHA-256", concat(...parts))));
}

// Keccak-256 and the recovery of a signer are here, and not taken from a library, because a check that is only made where a
// package was found is a check that is not made. They see public data alone: no secret, so no need for constant time.

const LANE = (1n << 64n) - 1n;
const rotate = (lane, by) => (by === 0n ? lane : ((lane << by) | (lane >> (64n - by))) & LANE);

/** Rotations (ρ) and places (π) along the walk of FIPS 202, and round constants (ι) from its feedback register. */
const WALK = (() => {
  const steps = [];
  for (let t = 0, x = 1, y = 0; t < 24; t += 1) {
    const by = BigInt((((t + 1) * (t + 2)) / 2) % 64);
    [x, y] = [y, (2 * x + 3 * y) % 5];
    steps.push([x + 5 * y, by]);
  }
  return steps;
})();
const ROUNDS = (() => {
  let register = 1;
  return Array.from({ length: 24 }, () => {
    let constant = 0n;
    for (let j = 0; j < 7; j += 1) {
      if (register & 1) constant |= 1n << BigInt((1 << j) - 1);
      register = (register << 1) ^ (register & 0x80 ? 0x171 : 0);
    }
    return constant;
  });
})();

function keccakRounds(state) {
  for (const constant of ROUNDS) {
    const column = [0, 1, 2, 3, 4].map((x) => state[x] ^ state[x + 5] ^ state[x + 10] ^ state[x + 15] ^ state[x + 20]);
    for (let i = 0; i < 25; i += 1) state[i] ^= column[(i + 4) % 5] ^ rotate(column[(i + 1) % 5], 1n);
    let carried = state[1];
    for (const [place, by] of WALK) [carried, state[place]] = [state[place], rotate(carried, by)];
    for (let y = 0; y < 25; y += 5) {
      const row = state.slice(y, y + 5);
      for (let x = 0; x < 5; x += 1) state[y + x] = row[x] ^ (~row[(x + 1) % 5] & LANE & row[(x + 2) % 5]);
    }
    state[0] ^= constant;
  }
}

/** Keccak-256, as Ethereum uses it. */
export function keccak256(bytes) {
  const rate = 136;
  const padded = new Uint8Array((Math.floor(bytes.length / rate) + 1) * rate);
  padded.set(bytes);
  padded[bytes.length] ^= 0x01;
  padded[padded.length - 1] ^= 0x80;
  const view = new DataView(padded.buffer);
  const state = new Array(25).fill(0n);
  for (let at = 0; at < padded.length; at += rate) {
    for (let i = 0; i < rate / 8; i += 1) state[i] ^= view.getBigUint64(at + 8 * i, true);
    keccakRounds(state);
  }
  return concat(...state.slice(0, 4).map(u64le));
}

const P = 2n ** 256n - 2n ** 32n - 977n;
const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const G = [0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n, 0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n, 1n];
const mod = (value, by) => ((value % by) + by) % by;

function inverse(value, by) {
  let [a, b, x, y] = [mod(value, by), by, 1n, 0n];
  while (a > 1n) {
    const quotient = b / a;
    [a, b, x, y] = [b - quotient * a, a, y - quotient * x, x];
    if (a === 0n) fail("Signature", "the signature fits no public key");
  }
  return mod(x, by);
}

function power(base, exponent, by) {
  let result = 1n;
  for (let square = mod(base, by), rest = exponent; rest > 0n; rest >>= 1n, square = (square * square) % by) if (rest & 1n) result = (result * square) % by;
  return result;
}

// Points in Jacobian coordinates; z = 0 is the point at infinity.
function double([x, y, z]) {
  if (z === 0n || y === 0n) return [0n, 1n, 0n];
  const yy = (y * y) % P;
  const s = (4n * x * yy) % P;
  const m = (3n * x * x) % P;
  const x3 = mod(m * m - 2n * s, P);
  return [x3, mod(m * (s - x3) - 8n * yy * yy, P), (2n * y * z) % P];
}

function add(a, b) {
  if (a[2] === 0n) return b;
  if (b[2] === 0n) return a;
  const [za, zb] = [(a[2] * a[2]) % P, (b[2] * b[2]) % P];
  const [ua, ub] = [(a[0] * zb) % P, (b[0] * za) % P];
  const [sa, sb] = [(a[1] * zb * b[2]) % P, (b[1] * za * a[2]) % P];
  if (ua === ub) return sa === sb ? double(a) : [0n, 1n, 0n];
  const [h, r] = [mod(ub - ua, P), mod(sb - sa, P)];
  const hh = (h * h) % P;
  const [hhh, v] = [(h * hh) % P, (ua * hh) % P];
  const x = mod(r * r - hhh - 2n * v, P);
  return [x, mod(r * (v - x) - sa * hhh, P), (h * a[2] * b[2]) % P];
}

/** The address whose key signed a 32-byte digest. Low s only (EIP-2); v of 0, 1, 27 or 28. */
export function recover(digest, signature) {
  const bytes = bytesOf(signature);
  const [r, s] = [toBig(bytes.slice(0, 32)), toBig(bytes.slice(32, 64))];
  const odd = bytes[64] >= 27 ? bytes[64] - 27 : bytes[64];
  if (bytes.length !== 65 || odd > 1 || r === 0n || s === 0n || r >= N || s >= N) fail("Signature", "a signature is 65 bytes r, s, v with v of 0, 1, 27 or 28");
  if (s > N / 2n) fail("Signature", "the signature's s value is in the upper half of the curve's order");
  const square = mod(r * r * r + 7n, P);
  let y = power(square, (P + 1n) / 4n, P);
  if ((y * y) % P !== square) fail("Signature", "the signature fits no public key");
  if (Number(y & 1n) !== odd) y = P - y;
  const [point, inverted] = [[r, y, 1n], inverse(r, N)];
  const [onG, onPoint] = [mod(-toBig(bytesOf(digest, 32)) * inverted, N), mod(s * inverted, N)];
  const both = add(G, point);
  let sum = [0n, 1n, 0n];
  for (let bit = 255n; bit >= 0n; bit -= 1n) {
    sum = double(sum);
    const [g, p] = [(onG >> bit) & 1n, (onPoint >> bit) & 1n];
    if (g || p) sum = add(sum, g && p ? both : g ? G : point);
  }
  if (sum[2] === 0n) fail("Signature", "the signature fits no public key");
  const z = inverse(sum[2], P);
  const key = concat(word((sum[0] * z * z) % P), word((sum[1] * z * z * z) % P));
  return hexOf(keccak256(key).slice(12));
}

// ------------------------------------------------------------------------------------------------------------ statement

/** `SHA256(salt)`, or zero for no salt. */
export const saltCommitment = async (salt) => (same(salt, ZERO_DIGEST) ? ZERO_DIGEST : sha256(bytesOf(salt, 32)));

/** A job's first head, as the contract derives it. `job`: `{ chainId, marketplace, jobId, host, modelDigest }`. */
export const genesisHead = (job, commitment) =>
  sha256(ascii("milepost:head:v1"), word(job.chainId), bytesOf(job.marketplace, 20), word(job.jobId), bytesOf(job.host, 20), bytesOf(job.modelDigest, 32), bytesOf(commitment, 32));

/** Head after a checkpoint of `ids` that starts at `first`. */
export const checkpointHead = (head, first, turns, ids) => sha256(ascii("milepost:ckpt:v1"), bytesOf(head, 32), u64le(first), u64le(ids.length), bytesOf(turns, 32), u32le(ids));

/** Digest of the tokens metered since the last seal. */
export const openDigest = (head, first, ids) => sha256(ascii("milepost:open:v1"), bytesOf(head, 32), u64le(first), u64le(ids.length), u32le(ids));

/** Digest of a request's id. */
export const requestDigest = (id) => sha256(ascii("milepost:rqst:v1"), ascii(id));

/** Digest of the turns that begin in a checkpoint: `[{ start, prompt, sampler, request }]`. */
export const turnsDigest = (salt, first, turns) => {
  const count = new Uint8Array(4);
  new DataView(count.buffer).setUint32(0, turns.length, true);
  const parts = turns.map((turn) => concat(u64le(turn.start), bytesOf(turn.prompt, 32), bytesOf(turn.sampler, 32), bytesOf(turn.request, 32)));
  return sha256(ascii("milepost:turn:v1"), bytesOf(salt, 32), u64le(first), count, ...parts);
};

/** Fields of what is signed, in order (docs/statement.md, EIP-712). */
export const TYPES = Object.freeze({
  Voucher: [["uint256", "jobId"], ["uint256", "tokens"]],
  TurnReceipt: [["uint256", "jobId"], ["bytes32", "requestDigest"], ["bytes32", "sealedHead"], ["uint256", "sealedTokens"], ["uint256", "openTokens"], ["bytes32", "openDigest"]],
  SessionOpen: [["uint256", "jobId"], ["bytes32", "challenge"], ["uint256", "expiresAt"]],
});

/** What a wallet is asked to sign, in the shape that viem's and (through `fromEthers`) ethers' signers take. */
export function typedData(job, primaryType, message) {
  const domain = { name: "Milepost", version: "1", chainId: Number(job.chainId), verifyingContract: job.marketplace };
  return { domain, types: { [primaryType]: TYPES[primaryType].map(([type, name]) => ({ name, type })) }, primaryType, message };
}

/** The EIP-712 digest of it. */
export function typedDigest(job, primaryType, message) {
  const kind = `${primaryType}(${TYPES[primaryType].map(([type, name]) => `${type} ${name}`).join(",")})`;
  const fields = TYPES[primaryType].map(([type, name]) => (type === "bytes32" ? bytesOf(message[name], 32) : word(message[name])));
  const domain = ascii("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
  const separator = keccak256(concat(keccak256(domain), keccak256(ascii("Milepost")), keccak256(ascii("1")), word(job.chainId), addressWord(job.marketplace)));
  return hexOf(keccak256(concat(new Uint8Array([0x19, 0x01]), separator, keccak256(concat(keccak256(ascii(kind)), ...fields)))));
}

// ----------------------------------------------------------------------------------------------------------- transcript

/** The client's own copy of a job's tokens, and what is held against it. Talks to nobody. */
export class Transcript {
  static async create(job, salt, signers = []) {
    const transcript = new Transcript();
    Object.assign(transcript, { job, salt, signers: [job.host, ...signers], ids: [], checkpoints: [], pending: [], turns: [], sealed: 0 });
    transcript.genesis = await genesisHead(job, await saltCommitment(salt));
    transcript.head = transcript.genesis;
    return transcript;
  }

  /** Position after the last token received. */
  get end() {
    return this.ids.length;
  }

  /** Notes that a request of ours begins at `start`: only such turns may stand in a checkpoint whose turns are listed. */
  async noteTurn(start, requestId) {
    this.turns.push({ start, request: await requestDigest(requestId) });
  }

  /** Takes tokens of which the first has position `at`; those received before may be repeated. Answers how many were new. */
  async receive(at, ids) {
    if (at > this.end) fail("Gap", `tokens ${this.end} to ${at} are missing from the stream`, { expected: this.end, got: at });
    const known = Math.min(this.end - at, ids.length);
    for (let i = 0; i < known; i += 1) {
      if (this.ids[at + i] !== ids[i]) fail("Rewritten", `token ${at + i} was ${this.ids[at + i]} and came again as ${ids[i]}`, { seq: at + i });
    }
    for (const id of ids.slice(known)) this.ids.push(id);
    await this.#settle();
    return ids.length - known;
  }

  /** Takes an announced checkpoint `{ number, first_seq, count, turns_digest, head }`. One whose tokens are on their way waits for them. */
  async announce(seal) {
    const known = [...this.checkpoints, ...this.pending].find((other) => other.number === seal.number);
    if (known) {
      const repeated = known.first_seq === seal.first_seq && known.count === seal.count && same(known.turns_digest, seal.turns_digest) && same(known.head, seal.head);
      return repeated ? undefined : fail("CheckpointChanged", `checkpoint ${seal.number} was announced twice with different contents`);
    }
    const last = this.pending.at(-1);
    const number = last ? last.number + 1 : this.checkpoints.length;
    const first = last ? last.first_seq + last.count : this.sealed;
    if (seal.number !== number) fail("CheckpointNumber", `checkpoint ${seal.number} was announced where ${number} comes next`);
    if (seal.first_seq !== first) fail("CheckpointStart", `checkpoint ${number} begins at ${seal.first_seq}, the one before it ended at ${first}`);
    if (!Number.isSafeInteger(seal.count) || seal.count < 1 || seal.count > MAX_CHECKPOINT_TOKENS) fail("CheckpointSize", `checkpoint ${number} cannot hold ${seal.count} tokens`);
    if (this.pending.length >= MAX_PENDING) fail("TooManyAnnounced", `${this.pending.length} checkpoints are announced whose tokens have not come`);
    bytesOf(seal.turns_digest, 32);
    this.pending.push(seal);
    return this.#settle();
  }

  async #settle() {
    while (this.pending.length > 0 && this.pending[0].first_seq + this.pending[0].count <= this.end) {
      const seal = this.pending[0];
      const end = seal.first_seq + seal.count;
      const computed = await checkpointHead(this.head, seal.first_seq, seal.turns_digest, this.ids.slice(seal.first_seq, end));
      if (!same(computed, seal.head)) fail("WrongHead", `checkpoint ${seal.number} was announced with head ${seal.head}, the received tokens give ${computed}`, { number: seal.number });
      if (seal.turns) await this.#checkTurns(seal);
      this.pending.shift();
      this.checkpoints.push(seal);
      this.head = computed;
      this.sealed = end;
    }
  }

  async #checkTurns(seal) {
    const computed = await turnsDigest(this.salt, seal.first_seq, seal.turns);
    if (!same(computed, seal.turns_digest)) fail("WrongTurns", `checkpoint ${seal.number} was announced with turns digest ${seal.turns_digest}, its turns give ${computed}`);
    const foreign = seal.turns.find((turn) => !this.turns.some((own) => own.start === turn.start && same(own.request, turn.request)));
    if (foreign) fail("ForeignTurn", `checkpoint ${seal.number} holds a turn at token ${foreign.start} that this client did not ask for`);
  }

  /** The head after `position` tokens, if a checkpoint ends there. */
  headAt(position) {
    if (position === 0) return this.genesis;
    return this.checkpoints.find((seal) => seal.first_seq + seal.count === position)?.head;
  }

  /** Checks a turn's receipt, as the doors write it. `MissingCheckpoints` and `WrongSigner` may be for want of knowledge. */
  async checkReceipt(requestId, receipt) {
    const sealed = whole(receipt.sealed_tokens, "sealed_tokens");
    const total = sealed + whole(receipt.open_tokens, "open_tokens");
    if (BigInt(receipt.job_id) !== BigInt(this.job.jobId)) fail("ReceiptJob", `the receipt is for job ${receipt.job_id}, not ${this.job.jobId}`);
    const request = await requestDigest(requestId);
    if (!same(receipt.request_digest, request)) fail("ReceiptRequest", `the receipt is not for request ${requestId}`);
    if (total !== this.end) fail("ReceiptCount", `the receipt counts ${total} tokens, ${this.end} were received`, { receipt: total, captured: this.end });
    if (sealed > this.sealed) fail("MissingCheckpoints", `${sealed} tokens are sealed, but checkpoints are known only up to ${this.sealed}`);
    const head = this.headAt(sealed);
    if (head === undefined) fail("ReceiptBoundary", `the receipt says that ${sealed} tokens are sealed, where no checkpoint ends`);
    if (!same(receipt.sealed_head, head)) fail("ReceiptHead", `the receipt's sealed head is ${receipt.sealed_head}, the received tokens give ${head}`);
    const open = await openDigest(head, sealed, this.ids.slice(sealed));
    if (!same(receipt.open_digest, open)) fail("ReceiptOpenDigest", `the receipt's open digest is ${receipt.open_digest}, the received tokens give ${open}`);
    if (receipt.signature === null || receipt.signature === undefined) return Number(this.job.chainId) === 0 ? undefined : fail("Unsigned", "the receipt is not signed");
    const message = { jobId: this.job.jobId, requestDigest: request, sealedHead: head, sealedTokens: sealed, openTokens: receipt.open_tokens, openDigest: open };
    const signer = recover(typedDigest(this.job, "TurnReceipt", message), receipt.signature);
    if (!this.signers.some((known) => same(known, signer))) {
      fail("WrongSigner", `the receipt is signed by ${signer}, which is neither the host ${this.job.host} nor one of its submitter keys`, { signer });
    }
  }

  /** Holds the chain's view against ours: the tokens paid for were received, and the chain's head is the recomputed one. */
  checkChain(tokensUsed, head) {
    if (tokensUsed > this.end) fail("ChainBeyond", `the chain has ${tokensUsed} tokens claimed, ${this.end} were received`, { chain: tokensUsed, captured: this.end });
    if (tokensUsed > this.sealed) fail("MissingCheckpoints", `${tokensUsed} tokens are claimed, but checkpoints are known only up to ${this.sealed}`);
    const computed = this.headAt(tokensUsed);
    if (computed === undefined) fail("ChainBoundary", `claims on chain end at token ${tokensUsed}, where no checkpoint ends`);
    if (!same(computed, head)) fail("ChainHead", `the chain's head is ${head}, the received tokens give ${computed}`);
  }
}

// ---------------------------------------------------------------------------------------------------------------- chain

const selector = (signature) => keccak256(ascii(signature)).slice(0, 4);
const TERMS = "(address,address,uint256,uint256,bytes32,uint32,uint64,uint64,uint256,address,address,uint64,bytes32)";

/** A marketplace through a JSON-RPC endpoint. */
export class Chain {
  constructor(rpc, marketplace) {
    Object.assign(this, { rpc, marketplace });
  }

  async request(method, params) {
    let answer;
    try {
      const response = await fetch(this.rpc, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }) });
      answer = await response.json();
    } catch (error) {
      fail("Rpc", `the chain endpoint: ${error.message}`);
    }
    if (answer.error) {
      const reverted = /revert/.test(answer.error.message ?? "") || typeof answer.error.data === "string";
      fail(reverted ? "Reverted" : "Rpc", `${method}: ${answer.error.message}`, { data: answer.error.data });
    }
    return answer.result;
  }

  /** A view call; the answer as 32-byte words. */
  async read(to, signature, ...words) {
    const answer = bytesOf(await this.request("eth_call", [{ to, data: hexOf(concat(selector(signature), ...words)) }, "latest"]));
    if (answer.length === 0 || answer.length % 32 !== 0) fail("Rpc", `${signature}: there is no such contract at ${to}`);
    return Array.from({ length: answer.length / 32 }, (_, i) => answer.slice(32 * i, 32 * i + 32));
  }

  /** A job as the contract has it. */
  async job(jobId) {
    const words = await this.read(this.marketplace, "getSession(uint256)", word(jobId));
    const [number, address, digest] = [(i) => toBig(words[i]), (i) => hexOf(words[i].slice(12)), (i) => hexOf(words[i])];
    if (number(14) === 0n) fail("Terms", `job ${jobId} does not exist on this marketplace`);
    const chainId = Number(BigInt(await this.request("eth_chainId", [])));
    return {
      chainId, marketplace: this.marketplace, jobId: BigInt(jobId), depositor: address(0), host: address(1), token: address(2), deposit: number(3), price: number(4),
      modelDigest: digest(5), minimumCharge: number(9), voucherSigner: address(11), voucherAllowance: Number(number(12)), saltCommitment: digest(13),
      status: Number(number(14)), claimUntil: Number(number(18)), tokensUsed: Number(number(19)), voucherTokens: Number(number(21)), head: digest(22),
    };
  }

  async #one(to, signature, ...words) {
    return (await this.read(to, signature, ...words))[0];
  }

  async registry() {
    return hexOf((await this.#one(this.marketplace, "hostRegistry()")).slice(12));
  }

  /** Whether `key` may submit, and so sign receipts, for `host`. */
  async isSubmitter(host, key) {
    return toBig(await this.#one(await this.registry(), "isSubmitter(address,address)", addressWord(host), addressWord(key))) === 1n;
  }

  /** The host's registered price of a token; 0 where it does not offer the model. */
  async priceOf(host, modelDigest, token) {
    return toBig(await this.#one(await this.registry(), "priceOf(address,bytes32,address)", addressWord(host), bytesOf(modelDigest, 32), addressWord(token)));
  }

  async feeBps() {
    return toBig(await this.#one(this.marketplace, "feeBps()"));
  }

  /** The payout's event; undefined before it. */
  async payout(jobId) {
    const topic = hexOf(keccak256(ascii("SessionCompleted(uint256,address,address,uint256,uint256,uint256,uint256)")));
    const logs = await this.request("eth_getLogs", [{ address: this.marketplace, fromBlock: "0x0", topics: [topic, hexOf(word(jobId))] }]);
    if (logs.length === 0) return undefined;
    const data = bytesOf(logs[0].data, 128);
    const [tokens, host, treasury, refund] = [0, 1, 2, 3].map((i) => toBig(data.slice(32 * i, 32 * i + 32)));
    return { tokens: Number(tokens), host, treasury, refund, transaction: logs[0].transactionHash };
  }

  /** Sends through the wallet and waits for the receipt. */
  async transact(wallet, to, signature, words, value = 0n) {
    if (typeof wallet.sendTransaction !== "function") fail("Usage", "this wallet has no sendTransaction");
    const sent = await wallet.sendTransaction({ to, data: hexOf(concat(selector(signature), ...words)), value });
    const hash = typeof sent === "string" ? sent : sent.hash;
    for (const begin = Date.now(); Date.now() - begin < MINED_MS; await pause(POLL_MS)) {
      const receipt = await this.request("eth_getTransactionReceipt", [hash]);
      if (receipt) return BigInt(receipt.status) === 1n ? receipt : fail("Reverted", `${signature} reverted in ${hash}`, { hash });
    }
    return fail("NotMined", `${hash} for ${signature} is not mined after ${MINED_MS / 1_000} s: its fate is unknown`, { hash });
  }
}

/**
 * Funds a job: approves the deposit (exactly that) and creates the session. Answers `{ jobId, salt }`; keep both, the salt is secret.
 * `terms`: `{ host, token, deposit, modelDigest, maxPrice?, allowance?, voucherSigner?, expectedRate?, maxDuration?, timeoutSeconds? }`. `keep(salt)` is
 * awaited before anything is sent. An allowance (tokens that may be claimed beyond the last voucher) is asked for by default.
 */
export async function fund({ rpc, marketplace, wallet, terms, keep = async () => {} }) {
  const chain = new Chain(rpc, marketplace);
  const { host, token = ZERO_ADDRESS, deposit, modelDigest, allowance = 64 } = terms;
  const price = await chain.priceOf(host, modelDigest, token);
  if (price === 0n) fail("Price", `host ${host} offers no price for model ${modelDigest} in token ${token}`);
  if (terms.maxPrice !== undefined && price > BigInt(terms.maxPrice)) fail("Price", `the host asks ${price} per token, more than ${terms.maxPrice}`);
  const salt = hexOf(globalThis.crypto.getRandomValues(new Uint8Array(32)));
  await keep(salt);
  if (!same(token, ZERO_ADDRESS)) await chain.transact(wallet, token, "approve(address,uint256)", [addressWord(marketplace), word(deposit)]);
  const signer = terms.voucherSigner ?? wallet.address;
  const words = [
    addressWord(host), addressWord(token), word(deposit), word(price), bytesOf(modelDigest, 32), word(terms.expectedRate ?? 0), word(terms.maxDuration ?? 86_400), word(terms.timeoutSeconds ?? 3_600),
    word(0), addressWord(ZERO_ADDRESS), addressWord(signer), word(allowance), bytesOf(await saltCommitment(salt), 32),
  ];
  const value = same(token, ZERO_ADDRESS) ? BigInt(deposit) : 0n;
  const receipt = await chain.transact(wallet, marketplace, `createSession(${TERMS})`, words, value);
  const topic = hexOf(keccak256(ascii(`SessionCreated(uint256,address,address,${TERMS},bytes32)`)));
  const log = receipt.logs.find((entry) => same(entry.address, marketplace) && same(entry.topics[0], topic));
  if (!log) fail("Rpc", "createSession was mined without its event");
  return { jobId: BigInt(log.topics[1]), salt };
}

/** The split that the contract must make of `tokens`: charge = tokens × price, at least the minimum once anything was claimed, fee = floor. */
export function split(job, tokens, feeBps) {
  let charge = BigInt(tokens) * job.price;
  const minimum = job.minimumCharge < job.deposit ? job.minimumCharge : job.deposit;
  if (tokens > 0 && charge < minimum) charge = minimum;
  const treasury = (charge * BigInt(feeBps)) / 10_000n;
  return { host: charge - treasury, treasury, refund: job.deposit - charge };
}

// -------------------------------------------------------------------------------------------------------------- wallets

/** A wallet of an ethers v6 signer. */
export const fromEthers = (signer, address) => ({
  address,
  signTypedData: ({ domain, types, message }) => signer.signTypedData(domain, types, message),
  sendTransaction: async (transaction) => (await signer.sendTransaction(transaction)).hash,
});

/** A wallet of a viem wallet client that has an account. */
export const fromViem = (client) => ({
  address: client.account.address,
  signTypedData: (data) => client.signTypedData({ account: client.account, ...data }),
  sendTransaction: (transaction) => client.sendTransaction({ account: client.account, ...transaction }),
});

/** A wallet of an EIP-1193 provider (a browser's `ethereum`, or an endpoint with unlocked accounts). */
export const fromProvider = (provider, address) => ({
  address,
  signTypedData: ({ domain, types, primaryType, message }) => {
    const named = [["string", "name"], ["string", "version"], ["uint256", "chainId"], ["address", "verifyingContract"]].map(([type, name]) => ({ name, type }));
    const text = JSON.stringify({ domain, types: { EIP712Domain: named, ...types }, primaryType, message }, (_, value) => (typeof value === "bigint" ? value.toString() : value));
    return provider.request({ method: "eth_signTypedData_v4", params: [address, text] });
  },
  sendTransaction: ({ to, data, value = 0n }) => provider.request({ method: "eth_sendTransaction", params: [{ from: address, to, data, value: `0x${value.toString(16)}` }] }),
});

// -------------------------------------------------------------------------------------------------------------- session

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Frames of a WebSocket as a queue that is read with a time limit. */
class Frames {
  #queue = [];
  #waiting;
  #over;

  static async connect(url, WebSocketClass) {
    const frames = new Frames();
    let socket;
    try {
      socket = new WebSocketClass(url);
    } catch (error) {
      fail("HostUnreachable", `${url}: ${error.message}`);
    }
    frames.socket = socket;
    await new Promise((resolve, reject) => {
      const lost = (reason) => new MilepostError("HostUnreachable", `${url}: ${reason}`);
      const timer = setTimeout(() => {
        reject(lost(`no connection within ${SETUP_MS / 1_000} s`));
        socket.close();
      }, SETUP_MS);
      socket.onopen = () => resolve(clearTimeout(timer));
      socket.onerror = () => {
        clearTimeout(timer);
        reject(lost("no connection"));
        frames.#end(lost("the connection broke"));
      };
      socket.onclose = () => {
        clearTimeout(timer);
        reject(lost("no connection"));
        frames.#end(lost("it closed the connection"));
      };
      socket.onmessage = ({ data }) => frames.#push(data);
    });
    return frames;
  }

  #push(data) {
    if (typeof data !== "string" || data.length > MAX_FRAME || this.#queue.length >= MAX_QUEUED_FRAMES) {
      this.#end(new MilepostError("Protocol", "the host sent a binary frame, one too long, or more than a client can be expected to hold"));
      this.socket.close();
      return;
    }
    this.#queue.push(data);
    this.#waiting?.();
  }

  #end(error) {
    this.#over ??= error;
    this.#waiting?.();
  }

  send(frame) {
    if (this.#over) throw this.#over;
    this.socket.send(JSON.stringify(frame));
  }

  async next(limit) {
    const deadline = Date.now() + limit;
    while (this.#queue.length === 0) {
      if (this.#over) throw this.#over;
      const left = deadline - Date.now();
      if (left <= 0) fail("Silent", `the host was silent for ${limit / 1_000} s`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiting = () => resolve(clearTimeout(timer));
      });
      this.#waiting = undefined;
    }
    const text = this.#queue.shift();
    try {
      const frame = JSON.parse(text);
      if (frame !== null && typeof frame === "object") return frame;
    } catch {
      // said below
    }
    return fail("Protocol", `a frame that is no JSON object: ${text.slice(0, 80)}`);
  }

  close() {
    this.#end(new MilepostError("HostUnreachable", "the connection was closed here"));
    this.socket.onmessage = null;
    this.socket.close();
  }
}

const GOING = ["service_unavailable", "draining", "chain_unavailable", "storage_failed"];
/** The connection or the host went away, or is about to: the request itself was not refused. */
const isCut = (error) =>
  ["HostUnreachable", "Silent"].includes(error.code) || (error.code === "Host" && ([502, 503, 504].includes(error.details.status) || GOING.includes(String(error.details.code).toLowerCase())));
const isEngineFailure = (error) => error.code === "Host" && String(error.details.code).toLowerCase() === "engine_failed";
const isUnauthorized = (error) => error.code === "Host" && (error.details.status === 401 || ["unauthorized", "unauthenticated"].includes(String(error.details.code).toLowerCase()));
/** Faults of the host: what it said does not fit. They stop the session. */
const LIES = new Set(
  ("Gap Rewritten NotAskedFor WrongCount HostBehind CheckpointNumber CheckpointStart CheckpointSize CheckpointChanged TooManyAnnounced WrongHead WrongTurns ForeignTurn ReceiptMissing " +
    "ReceiptJob ReceiptRequest ReceiptCount MissingCheckpoints ReceiptBoundary ReceiptHead ReceiptOpenDigest Unsigned Signature WrongSigner ChainBeyond ChainHead ChainBoundary ChainVoucher Payout").split(" "),
);
const refusal = (frame) => new MilepostError("Host", `the host refuses: ${frame.code}: ${frame.message ?? frame.error}`, { status: 0, code: frame.code });

/** A paid session on a funded job. */
export class Session {
  #frames;

  /**
   * Opens a session, or takes one up: with `state`, what `save` was last given.
   *
   * `url` host's address; `rpc`, `marketplace`, `jobId` the funded job, whose terms are read from the chain; `salt`; `wallet`
   * `{ address, signTypedData }` of the depositor; `voucherWallet` where another key countersigns; `save(state)` keeps the session and is
   * awaited before anything is acknowledged or countersigned. Without `rpc` the terms are given as `job` and submitter keys as `signers`.
   */
  static async open({ url, rpc, marketplace, jobId, salt, wallet, voucherWallet = wallet, save = async () => {}, state, job, signers = [], WebSocket = globalThis.WebSocket }) {
    if (typeof WebSocket !== "function") fail("Usage", "there is no WebSocket here: pass one, or start Node 20 with --experimental-websocket");
    const session = new Session();
    const chain = rpc ? new Chain(rpc, marketplace ?? state?.job.marketplace) : undefined;
    const terms = job ?? (chain ? await chain.job(jobId ?? state?.job.jobId) : fail("Usage", "neither rpc nor job is given: there is nothing to hold the host against"));
    const secret = salt ?? state?.salt ?? ZERO_DIGEST;
    if (terms.saltCommitment !== undefined && !same(terms.saltCommitment, await saltCommitment(secret))) fail("Terms", "the salt is not the one that the job was funded with");
    if (terms.depositor !== undefined && !same(terms.depositor, wallet.address)) fail("Terms", `the job's depositor is ${terms.depositor}, this wallet is ${wallet.address}`);
    const vouched = terms.voucherSigner !== undefined && !same(terms.voucherSigner, ZERO_ADDRESS);
    if (vouched && voucherWallet && !same(terms.voucherSigner, voucherWallet.address)) fail("Terms", `vouchers are signed by ${terms.voucherSigner}, this wallet is ${voucherWallet.address}`);
    Object.assign(session, { url: url.replace(/\/+$/, ""), chain, job: terms, salt: secret, wallet, voucherWallet: vouched ? voucherWallet : undefined, save, WebSocket });
    session.transcript = await Transcript.create(terms, secret, signers);
    Object.assign(session, { given: 0, active: undefined, stopped: undefined, model: undefined, token: undefined, acked: 0, ackEvery: ACK_EVERY });
    if (state) await session.#restore(state);
    await session.#authenticate();
    return session;
  }

  async #restore(state) {
    if (BigInt(state.job.jobId) !== BigInt(this.job.jobId) || !same(state.job.host, this.job.host)) fail("Usage", `the state is of job ${state.job.jobId}, not ${this.job.jobId}`);
    for (const turn of state.turns) await this.transcript.noteTurn(turn.start, turn.requestId);
    this.turns = state.turns;
    await this.transcript.receive(0, state.ids);
    for (const seal of state.checkpoints) await this.transcript.announce(seal);
    Object.assign(this, { given: state.given, active: state.active, stopped: state.stopped });
  }

  /** Finished and begun requests, by position. */
  turns = [];

  /** What `save` is given: plain JSON. Holds the salt and the completions, and is a secret of the client's. */
  state() {
    const { chainId, marketplace, jobId, host, modelDigest } = this.job;
    return {
      format: 1, job: { chainId: Number(chainId), marketplace, jobId: String(jobId), host, modelDigest }, salt: this.salt, given: this.given, ids: [...this.transcript.ids],
      checkpoints: [...this.transcript.checkpoints], turns: [...this.turns], active: this.active, stopped: this.stopped,
    };
  }

  /** Tokens held. */
  get tokens() {
    return this.transcript.end;
  }

  /** What the tokens held cost, and what the deposit still pays for, where the terms are known. */
  get spent() {
    return this.job.price === undefined ? undefined : BigInt(this.tokens) * this.job.price;
  }

  get left() {
    return this.job.deposit === undefined ? undefined : this.job.deposit - this.spent;
  }

  async #http(method, path, body) {
    const headers = { "content-type": "application/json", ...(this.token ? { authorization: `Bearer ${this.token}` } : {}) };
    let response;
    let text;
    try {
      response = await fetch(`${this.url}/${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(SETUP_MS) });
      text = await response.text();
    } catch (error) {
      fail("HostUnreachable", `the host at ${this.url} cannot be reached: ${error.cause?.message ?? error.message}`);
    }
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      answer = { message: text.slice(0, 200) };
    }
    if (!response.ok) fail("Host", `the host refuses (${response.status}): ${answer.error_type}: ${answer.message}`, { status: response.status, code: answer.error_type });
    return answer;
  }

  async #authenticate() {
    const job_id = String(this.job.jobId);
    this.token = undefined;
    const { challenge, expires_at } = await this.#http("POST", "v1/session/challenge", { job_id });
    bytesOf(challenge, 32);
    const message = { jobId: BigInt(this.job.jobId), challenge, expiresAt: BigInt(whole(expires_at, "expires_at")) };
    const signature = await this.wallet.signTypedData(typedData(this.job, "SessionOpen", message));
    const opened = await this.#http("POST", "v1/session", { job_id, challenge, expires_at, signature, salt: this.salt });
    this.token = opened.token;
    this.model = opened.model;
    await this.#guard(async () => this.#checkPosition(opened.metered));
  }

  #checkPosition(metered) {
    if (metered === undefined || metered === null || metered >= this.tokens) return;
    fail("HostBehind", `the host stands at token ${metered}, but ${this.tokens} were received from it: it has lost tokens that it delivered`);
  }

  /** Runs a check; the first lie is remembered, and nothing but the end of the session remains. */
  async #guard(check) {
    try {
      return await check();
    } catch (error) {
      if (LIES.has(error.code)) {
        this.stopped = { code: error.code, message: error.message };
        this.#drop();
        await this.save(this.state());
      }
      throw error;
    }
  }

  #drop() {
    this.#frames?.close();
    this.#frames = undefined;
  }

  /**
   * Asks, and waits for the end of the answer: `{ requestId, start, count, text, finishReason, receipt }`.
   * `request`: `{ prompt, maxTokens = 256, temperature = 0.7, context = [], model?, requestId? }`. `on`: `{ tokens(ids, text, at), sealed(checkpoint),
   * reconnecting(attempt, reason) }`, each told after the check. `signal` aborts: the host stops within a step, and the turn ends with a receipt.
   */
  async chat(request, { on = {}, signal } = {}) {
    this.#usable();
    if (this.active) fail("TurnOpen", `request ${this.active.requestId} is not finished: resume it first`);
    const requestId = request.requestId ?? `req-${hexOf(globalThis.crypto.getRandomValues(new Uint8Array(12))).slice(2)}`;
    const { prompt, maxTokens = 256, temperature = 0.7, context = [], model = this.model } = request;
    this.active = { requestId, start: this.tokens, request: { prompt, max_tokens: maxTokens, temperature, conversation_context: context, model } };
    this.turns.push({ start: this.tokens, requestId });
    await this.transcript.noteTurn(this.tokens, requestId);
    // Kept before it is sent: from here on it is finished under its id, or found unfinished.
    await this.save(this.state());
    return this.#run(true, on, signal);
  }

  /** Takes up the unfinished request; undefined if there is none. */
  async resume({ on = {}, signal } = {}) {
    this.#usable();
    return this.active ? this.#run(false, on, signal) : undefined;
  }

  #usable() {
    if (this.stopped) fail("Stopped", `this session was stopped earlier: ${this.stopped.code}: ${this.stopped.message}`, { code: this.stopped.code });
  }

  async #run(fresh, on, signal) {
    const turn = { text: "", on, signal };
    let [attempt, wait, renewed] = [0, FIRST_PAUSE_MS, false];
    for (;;) {
      const before = this.tokens;
      try {
        return await this.#attempt(turn);
      } catch (error) {
        this.#drop();
        if (this.tokens > before) [attempt, wait] = [0, FIRST_PAUSE_MS];
        if (isUnauthorized(error) && !renewed) {
          renewed = true;
          await this.#authenticate();
          continue;
        }
        if (!isCut(error) && !(isEngineFailure(error) && this.tokens > this.active.start)) {
          if (error.code === "Host" && fresh && attempt === 0 && this.tokens === this.active.start) {
            // Refused before it began: there is nothing to take up again.
            this.turns.pop();
            this.active = undefined;
            await this.save(this.state());
          }
          throw error;
        }
        attempt += 1;
        if (attempt >= MAX_ATTEMPTS) fail("Cut", `the stream was cut and ${attempt} attempts to take it up again failed, the last with: ${error.message}`);
        on.reconnecting?.(attempt, error.message);
        await pause(wait);
        wait = Math.min(2 * wait, LONGEST_PAUSE_MS);
      }
    }
  }

  async #connected(id) {
    const hello = { type: "session_init", id, job_id: String(this.job.jobId), session_id: String(this.job.jobId), chain_id: Number(this.job.chainId), token: this.token, acks: true };
    if (!this.#frames) this.#frames = await Frames.connect(`${this.url.replace(/^http/, "ws")}/v1/ws`, this.WebSocket);
    this.#frames.send(hello);
    for (;;) {
      const frame = await this.#frames.next(SETUP_MS);
      if (frame.type === "connected" && Number.isInteger(frame.unacked_window)) this.ackEvery = Math.max(1, Math.min(ACK_EVERY, Math.floor(frame.unacked_window / 2)));
      if (frame.type === "error") throw refusal(frame);
      if (frame.type !== "session_init_ack") continue;
      if (frame.status !== undefined && frame.status !== "success") fail("Protocol", `session_init_ack with status ${frame.status}`);
      await this.#guard(async () => this.#checkPosition(frame.metered));
      return this.#frames;
    }
  }

  async #attempt(turn) {
    const { requestId, start, request } = this.active;
    const frames = await this.#connected(requestId);
    const ours = (frame) => frame.id === undefined || frame.id === null || frame.id === requestId;
    // Nothing received yet: the same request again, which the host answers once. Else only what is missing.
    const ask = this.tokens > start ? { request_id: requestId, resume_from: this.tokens } : { request_id: requestId, stream: true, ...request };
    frames.send({ type: "inference", id: requestId, request: ask });
    const cancel = () => frames.send({ type: "stream_cancel", request_id: requestId });
    if (turn.signal?.aborted) cancel();
    turn.signal?.addEventListener("abort", cancel, { once: true });
    try {
      for (let limit = FIRST_TOKEN_MS; ; ) {
        const frame = await frames.next(limit);
        if (frame.type === "stream_chunk" && ours(frame)) {
          limit = NEXT_TOKEN_MS;
          await this.#guard(() => this.#chunk(frame, turn));
          await this.#acknowledge(frames, false);
        } else if (frame.type === "checkpoint_sealed") {
          await this.#guard(() => this.transcript.announce(frame));
          turn.on.sealed?.(frame);
        } else if (frame.type === "stream_end" && ours(frame)) {
          const ended = await this.#guard(() => this.#finish(frame, turn));
          await this.#acknowledge(frames, true);
          return ended;
        } else if (frame.type === "error" && ours(frame)) {
          throw refusal(frame);
        }
      }
    } finally {
      turn.signal?.removeEventListener("abort", cancel);
    }
  }

  async #chunk(frame, turn) {
    const ids = tokenIds(frame.token_ids ?? []);
    if (frame.tokens !== ids.length) fail("WrongCount", `the host counts ${frame.tokens} tokens in a chunk of ${ids.length}`, { host: frame.tokens, captured: ids.length });
    const at = frame.seq === undefined || frame.seq === null ? this.tokens : whole(frame.seq, "seq");
    const asked = this.active.request.max_tokens;
    if (at + ids.length > this.active.start + asked) {
      fail("NotAskedFor", `${asked} tokens were asked for, and further ones came: what nobody asked for is neither kept nor countersigned`, { asked });
    }
    const fresh = await this.transcript.receive(at, ids);
    if (fresh === 0 && ids.length > 0) return; // a repetition: its text was shown
    turn.text += frame.content ?? "";
    turn.on.tokens?.(ids.slice(ids.length - fresh), frame.content ?? "", this.tokens - fresh);
  }

  async #finish(frame, turn) {
    const { requestId, start } = this.active;
    for (const seal of frame.checkpoints ?? []) await this.transcript.announce(seal);
    const count = this.tokens - start;
    if (frame.tokens_used !== undefined && frame.tokens_used !== count) {
      fail("WrongCount", `the host counts ${frame.tokens_used} tokens in this turn, ${count} were received`, { host: frame.tokens_used, captured: count });
    }
    if (!frame.receipt) fail("ReceiptMissing", "the turn ended without a receipt");
    await this.#checkReceipt(requestId, frame.receipt);
    this.active = undefined;
    return { requestId, start, count, text: turn.text, finishReason: frame.finish_reason ?? frame.reason ?? "unknown", receipt: frame.receipt };
  }

  /** Each lack of knowledge is made good once: what is lacking then is a fault. */
  async #checkReceipt(requestId, receipt) {
    const made = new Set();
    for (;;) {
      try {
        return await this.transcript.checkReceipt(requestId, receipt);
      } catch (error) {
        if (made.has(error.code)) throw error;
        made.add(error.code);
        if (error.code === "MissingCheckpoints") await this.#sync();
        else if (error.code === "WrongSigner" && this.chain && (await this.chain.isSubmitter(this.job.host, error.details.signer))) this.transcript.signers.push(error.details.signer);
        else throw error;
      }
    }
  }

  /** Fetches and checks the checkpoints that were not announced to us. */
  async #sync() {
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const from = this.transcript.checkpoints.length;
      const { checkpoints, next } = await this.#renewing(() => this.#http("GET", `v1/jobs/${this.job.jobId}/checkpoints?from=${from}`));
      for (const seal of checkpoints) await this.transcript.announce(seal);
      if (next === undefined || next === null || this.transcript.checkpoints.length === from) return;
    }
  }

  async #renewing(ask) {
    try {
      return await ask();
    } catch (error) {
      if (!isUnauthorized(error)) throw error;
      await this.#authenticate();
      return ask();
    }
  }

  /** Saves, then acknowledges and countersigns what is due: half the allowance before the host would pause, and at each turn's end. */
  async #acknowledge(frames, ended) {
    const { voucherAllowance: allowance } = this.job;
    const ahead = this.tokens - this.given;
    const voucher = this.voucherWallet && ahead > 0 && (ended || ahead >= Math.ceil(allowance / 2));
    if (!ended && !voucher && this.tokens - this.acked < this.ackEvery) return;
    const tokens = this.tokens;
    let signature;
    if (voucher) {
      signature = await this.voucherWallet.signTypedData(typedData(this.job, "Voucher", { jobId: BigInt(this.job.jobId), tokens: BigInt(tokens) }));
      this.given = tokens; // it counts from when it exists, whether or not it is sent
    }
    await this.save(this.state());
    frames.send({ type: "ack", seq: tokens });
    this.acked = tokens;
    if (voucher) frames.send({ type: "voucher", tokens, signature });
  }

  /** Ends the session: the host seals and claims the rest. */
  async close() {
    this.#drop();
    await this.#renewing(() => this.#http("POST", "v1/session/close", { job_id: String(this.job.jobId) }));
    await this.#guard(() => this.#sync());
    await this.save(this.state());
  }

  /** Holds the chain against what was received; answers the job as the chain has it. */
  async compareWithChain() {
    if (!this.chain) fail("Usage", "no rpc was given: there is no chain to compare with");
    const job = await this.chain.job(this.job.jobId);
    await this.#guard(async () => {
      try {
        this.transcript.checkChain(job.tokensUsed, job.head);
      } catch (error) {
        if (error.code !== "MissingCheckpoints") throw error;
        await this.#sync();
        this.transcript.checkChain(job.tokensUsed, job.head);
      }
      if (this.voucherWallet && job.voucherTokens > this.given) fail("ChainVoucher", `the chain has seen a voucher for ${job.voucherTokens} tokens, ${this.given} were countersigned`);
    });
    return job;
  }

  /** Waits until the job is paid, and checks the payout to the unit: `{ tokens, host, treasury, refund, transaction }`. */
  async waitPaid(limitMs = 600_000) {
    for (const begin = Date.now(); Date.now() - begin < limitMs; await pause(POLL_MS)) {
      if ((await this.chain.job(this.job.jobId)).status !== Status.COMPLETED) continue;
      const paid = await this.chain.payout(this.job.jobId);
      if (!paid) continue;
      const job = await this.compareWithChain();
      const expected = split(job, job.tokensUsed, await this.chain.feeBps());
      await this.#guard(async () => {
        if (paid.tokens !== job.tokensUsed) fail("Payout", `the payout is for ${paid.tokens} tokens, ${job.tokensUsed} were claimed`);
        for (const part of ["host", "treasury", "refund"]) if (paid[part] !== expected[part]) fail("Payout", `the payout's ${part} is ${paid[part]}, the terms give ${expected[part]}`);
      });
      return paid;
    }
    return fail("NotPaid", `job ${this.job.jobId} is not paid after ${limitMs / 1_000} s`);
  }

  /** Requests the close at the contract, where the host is gone: the depositor's right at any time. */
  closeOnChain = () => this.chain.transact(this.wallet, this.job.marketplace, "requestClose(uint256)", [word(this.job.jobId)]);

  /** Pays the job out once its window is over (anybody may). */
  finalize = () => this.chain.transact(this.wallet, this.job.marketplace, "finalize(uint256)", [word(this.job.jobId)]);

  /** Withdraws what the contract could not push. */
  withdrawCredit = () => this.chain.transact(this.wallet, this.job.marketplace, "withdrawCredit(address)", [addressWord(this.job.token)]);

  /** Drops the connection; the next turn makes a new one. */
  disconnect() {
    this.#drop();
  }
}
