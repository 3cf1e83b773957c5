// Measures whole transactions (21,000 and calldata included) of the committed artifacts on a fresh anvil and writes
// gas-snapshot.json; `--check` compares instead. Fails when a goal of DESIGN 12 is missed.
// Keys, nonces and therefore addresses are those of the development mnemonic: the figures repeat exactly.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { tool } from "./tools.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const artifact = (name) => JSON.parse(readFileSync(path.join(root, "artifacts", `${name}.json`), "utf8"));
/** Certificates that validators' own code made. */
const certificates = JSON.parse(readFileSync(path.resolve(root, "../crates/validator-net/vectors/certificates.json"), "utf8"));
const snapshotFile = path.join(root, "gas-snapshot.json");

const SINGLE_CLAIM_GOAL = 60_000;
const FURTHER_CLAIM_GOAL = 25_000;
/** At 15 signers of 21 the precompiles of EIP-2537 take 123,275 of it; the rest is hashing, copying and counting. */
const CERTIFICATE_GOAL = 175_000;
const BATCH = 10;
const START_TIMEOUT_MS = 20_000;
/** Anvil mines at once; ten seconds mean that it does not mine at all. */
const MAX_RECEIPT_POLLS = 1_000;
const RECEIPT_POLL_MS = 10;

const ZERO = `0x${"0".repeat(40)}`;
const MODEL = `0x${"b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}`;
const TERMS =
  "(address,address,uint256,uint256,bytes32,uint32,uint64,uint64,uint256,address,address,uint64,bytes32)";

const cast = (...args) => execFileSync(tool("cast"), args.map(String), { encoding: "utf8" }).trim();

async function startAnvil() {
  const child = spawn(tool("anvil"), ["--port", "0", "--chain-id", "31337", "--timestamp", "1800000000"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await new Promise((resolve, reject) => {
    let text = "";
    const timer = globalThis.setTimeout(() => reject(new Error("anvil did not start")), START_TIMEOUT_MS);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`anvil ended with ${code}`)));
    child.stdout.on("data", (chunk) => {
      text += chunk;
      const found = text.match(/Listening on (\S+)/);
      if (!found) return;
      clearTimeout(timer);
      resolve(`http://${found[1]}`);
    });
  });
  child.removeAllListeners("exit");
  return { url, stop: () => child.kill("SIGTERM") };
}

function client(url) {
  let id = 0;
  const rpc = async (method, ...params) => {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params }),
    });
    const { result, error } = await response.json();
    if (error) throw new Error(`${method}: ${error.message} ${error.data ?? ""}`);
    return result;
  };
  const send = async (from, to, data, value = 0) => {
    const transaction = { from, data, value: `0x${BigInt(value).toString(16)}`, gas: "0x1000000" };
    if (to) transaction.to = to;
    const hash = await rpc("eth_sendTransaction", transaction);
    let receipt = null;
    for (let poll = 0; receipt === null; ++poll) {
      if (poll === MAX_RECEIPT_POLLS) throw new Error(`no receipt for ${hash}`);
      receipt = await rpc("eth_getTransactionReceipt", hash);
      if (receipt === null) await setTimeout(RECEIPT_POLL_MS);
    }
    if (receipt.status !== "0x1") throw new Error(`transaction to ${to} reverted`);
    return { gas: Number(receipt.gasUsed), address: receipt.contractAddress, logs: receipt.logs };
  };
  const deploy = async (from, name, types, ...args) => {
    const tail = args.length > 0 ? cast("abi-encode", `f(${types})`, ...args).slice(2) : "";
    return send(from, null, artifact(name).bytecode + tail);
  };
  return { rpc, send, deploy };
}

/** Head after the n-th claim: any 32 bytes without zeros, which are the dearest calldata. */
const headAfter = (jobId, n) => cast("keccak", `head ${jobId} ${n}`);

function proofBytes({ marketplace, jobId, host, firstSeq, count, headBefore, head, voucher }) {
  const journal = cast(
    "abi-encode",
    "f(uint256,uint256,address,uint256,address,bytes32,uint256,uint256,bytes32,bytes32)",
    ...[1, 31337, marketplace, jobId, host, MODEL, firstSeq, count, headBefore, head],
  );
  return cast("abi-encode", "f(uint8,bytes,bytes,bytes)", 1, journal, "0x", voucher ?? "0x");
}

async function measure({ rpc, send, deploy }) {
  const [owner, host, depositor, submitter, signer] = await rpc("eth_accounts");
  const figures = {};
  const registry = (await deploy(owner, "HostRegistry", "")).address;
  const earnings = (await deploy(owner, "HostEarnings", "address", registry)).address;
  const deployed = await deploy(
    owner,
    "JobMarketplace",
    "address,address,address,uint256,bytes32,uint256,bool",
    ...[earnings, registry, owner, 1000, `0x${"11".repeat(32)}`, 3600, true],
  );
  const marketplace = deployed.address;
  figures["deploy JobMarketplace"] = deployed.gas;
  const usdc = (await deploy(owner, "TestUSDC", "")).address;
  await send(owner, earnings, cast("calldata", "bindMarketplace(address)", marketplace));
  await send(owner, marketplace, cast("calldata", "allowToken(address)", usdc));
  await send(host, registry, cast("calldata", "register(address,string,string)", host, "http://host", "{}"));
  await send(host, registry, cast("calldata", "addSubmitter(address)", submitter));
  await send(owner, usdc, cast("calldata", "mint(address,uint256)", depositor, 10n ** 12n));
  await send(depositor, usdc, cast("calldata", "approve(address,uint256)", marketplace, 10n ** 12n));

  const jobs = new Map();
  const created = artifact("JobMarketplace").eventTopics;
  const createdTopic = Object.entries(created).find(([name]) => name.startsWith("SessionCreated"))[1];
  const open = async (token, voucherSigner = ZERO) => {
    const price = token === ZERO ? 10n ** 12n : 2000n;
    const deposit = price * 1000n;
    const terms = [host, token, deposit, price, MODEL, 10, 86400, 3600, 0, ZERO, voucherSigner, 0, `0x${"55".repeat(32)}`];
    const data = cast("calldata", `createSession(${TERMS})`, `(${terms.join(",")})`);
    const { gas, logs } = await send(depositor, marketplace, data, token === ZERO ? deposit : 0n);
    const log = logs.find(({ topics }) => topics[0] === createdTopic);
    const jobId = Number(log.topics[1]);
    jobs.set(jobId, { tokens: 0, claims: 0, head: `0x${log.data.slice(-64)}` });
    return { jobId, gas };
  };
  const voucherFor = async (jobId, tokens) => {
    const typed = {
      types: {
        EIP712Domain: [
          { name: "name", type: "string" },
          { name: "version", type: "string" },
          { name: "chainId", type: "uint256" },
          { name: "verifyingContract", type: "address" },
        ],
        Voucher: [
          { name: "jobId", type: "uint256" },
          { name: "tokens", type: "uint256" },
        ],
      },
      primaryType: "Voucher",
      domain: { name: "Milepost", version: "1", chainId: 31337, verifyingContract: marketplace },
      message: { jobId, tokens },
    };
    const signature = await rpc("eth_signTypedData_v4", signer, typed);
    return cast("abi-encode", "f(uint256,bytes)", tokens, signature);
  };
  const nextProof = async (jobId, count, withVoucher) => {
    const job = jobs.get(jobId);
    const head = headAfter(jobId, ++job.claims);
    const voucher = withVoucher ? await voucherFor(jobId, job.tokens + count) : undefined;
    const proof = proofBytes({ marketplace, jobId, host, firstSeq: job.tokens, count, headBefore: job.head, head, voucher });
    job.tokens += count;
    job.head = head;
    return proof;
  };
  const claim = async (from, jobId, count, withVoucher = false) => {
    const proof = await nextProof(jobId, count, withVoucher);
    return (await send(from, marketplace, cast("calldata", "submitProofOfWork(uint256,uint256,bytes)", jobId, count, proof))).gas;
  };
  const batch = async (from, ids) => {
    const claims = [];
    for (const jobId of ids) claims.push(`(${jobId},100,${await nextProof(jobId, 100, false)})`);
    const data = cast("calldata", "submitProofsOfWork((uint256,uint256,bytes)[])", `[${claims.join(",")}]`);
    const { gas, logs } = await send(from, marketplace, data);
    if (logs.length !== ids.length) throw new Error("a claim of the batch was refused");
    return gas;
  };
  const toJob = (from, signature, jobId) => send(from, marketplace, cast("calldata", signature, jobId)).then(({ gas }) => gas);

  // The first session warms nothing but makes the contract's own counters non-zero, as they are in service.
  await open(ZERO);
  const native = await open(ZERO);
  const token = await open(usdc);
  const vouched = await open(usdc, signer);
  figures["createSession, native"] = native.gas;
  figures["createSession, USDC, salt"] = token.gas;
  figures["createSession, USDC, salt, vouchers"] = vouched.gas;

  const many = [];
  for (let i = 0; i < BATCH; ++i) many.push((await open(usdc)).jobId);
  await rpc("anvil_setNextBlockTimestamp", 1800001000);
  figures["claim, first of a job, by the host"] = await claim(host, token.jobId, 100);
  figures["claim, by the host"] = await claim(host, token.jobId, 250);
  figures["claim, by a submitter key"] = await claim(submitter, token.jobId, 250);
  figures["claim, by a submitter key, first voucher"] = await claim(submitter, vouched.jobId, 100, true);
  figures["claim, by a submitter key, voucher"] = await claim(submitter, vouched.jobId, 100, true);
  for (const [who, from] of [["the host", host], ["a submitter key", submitter]]) {
    const one = await batch(from, many.slice(0, 1));
    const all = await batch(from, many);
    figures[`batch of 1, by ${who}`] = one;
    figures[`batch of ${BATCH}, by ${who}`] = all;
    figures[`each further claim in a batch, by ${who}`] = Math.ceil((all - one) / (BATCH - 1));
  }
  await claim(host, native.jobId, 100);
  figures["requestClose, by the depositor"] = await toJob(depositor, "requestClose(uint256)", token.jobId);
  await rpc("anvil_setNextBlockTimestamp", 1800009000);
  figures["finalize, USDC, first of a host"] = await toJob(host, "finalize(uint256)", token.jobId);
  figures["finalize, USDC"] = await toJob(host, "finalize(uint256)", vouched.jobId);
  figures["finalize, native, first of a host"] = await toJob(host, "finalize(uint256)", native.jobId);
  const withdraw = cast("calldata", "withdrawAll(address)", usdc);
  figures["withdrawAll, USDC"] = (await send(host, earnings, withdraw)).gas;
  return figures;
}

/** What a transaction's data costs before its first instruction (EIP-2028). */
const calldataGas = (data) => {
  let gas = 0;
  for (let at = 2; at < data.length; at += 2) gas += data.slice(at, at + 2) === "00" ? 4 : 16;
  return gas;
};

/** Verifies a certificate in a transaction, which nobody has to: others call the library, or ask by eth_call. */
async function measureCertificates({ rpc, send, deploy }) {
  const [owner] = await rpc("eth_accounts");
  const figures = {};
  const { address: verifier, gas } = await deploy(owner, "CertificateVerifier", "");
  figures["deploy CertificateVerifier"] = gas;
  const signature = "verify((uint64,uint64,bytes32,(uint64,uint64,bytes32)[]),bytes,bytes,bytes[])";
  for (const [name, signers] of [["four", "3 of 4"], ["twentyOne", "15 of 21"], ["boundary", "two sets of 4 and 5"]]) {
    const it = certificates[name];
    const sets = it.ids.map((id, index) => `(${it.boundaries[index]},${id},${it.digests[index]})`);
    const trust = `(${it.chainId},${it.number},${it.blockHash},[${sets.join(",")}])`;
    const data = cast("calldata", signature, trust, it.certificate, it.signature, `[${it.sets.join(",")}]`);
    const { gas: whole } = await send(owner, verifier, data);
    figures[`certificate, ${signers}, a whole transaction`] = whole;
    figures[`certificate, ${signers}, the verification alone`] = whole - 21_000 - calldataGas(data);
  }
  return figures;
}

function goals(figures) {
  const single = ["claim, by the host", "claim, by a submitter key", "claim, by a submitter key, voucher"];
  const further = Object.keys(figures).filter((name) => name.startsWith("each further claim"));
  return [
    ...single.map((name) => ({ name, goal: SINGLE_CLAIM_GOAL })),
    ...further.map((name) => ({ name, goal: FURTHER_CLAIM_GOAL })),
    { name: "certificate, 15 of 21, the verification alone", goal: CERTIFICATE_GOAL },
  ];
}

const anvil = await startAnvil();
let figures;
try {
  const chain = client(anvil.url);
  figures = { ...(await measure(chain)), ...(await measureCertificates(chain)) };
} finally {
  anvil.stop();
}

const width = Math.max(...Object.keys(figures).map((name) => name.length));
for (const [name, gas] of Object.entries(figures)) console.log(`${name.padEnd(width)} ${String(gas).padStart(9)}`);
let failed = 0;
for (const { name, goal } of goals(figures)) {
  const met = figures[name] <= goal;
  if (!met) ++failed;
  console.log(`${met ? "met   " : "MISSED"} ${name}: ${figures[name]} (goal at most ${goal})`);
}
const text = `${JSON.stringify(figures, null, 2)}\n`;
if (process.argv.includes("--check")) {
  if (!existsSync(snapshotFile) || readFileSync(snapshotFile, "utf8") !== text) {
    const committed = existsSync(snapshotFile) ? JSON.parse(readFileSync(snapshotFile, "utf8")) : {};
    for (const name of new Set([...Object.keys(figures), ...Object.keys(committed)])) {
      if (figures[name] !== committed[name]) console.error(`gas of «${name}»: ${committed[name]} committed, ${figures[name]} measured`);
    }
    console.error("gas snapshot out of date; run scripts/contracts snapshot");
    failed += 1;
  }
} else {
  writeFileSync(snapshotFile, text);
  console.log("wrote gas-snapshot.json");
}
process.exit(failed === 0 ? 0 : 1);
