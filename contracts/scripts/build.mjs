// Compiles src/ and generations/ with solc-js and writes artifacts/<Name>.json and artifacts/generations/<Name>.json;
// `--check` compares byte for byte instead.
// One artifact is { abi, bytecode, deployedBytecode, methodIdentifiers, errorIdentifiers, eventTopics, compiler }.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { compile, version } from "./solc.mjs";

const require = createRequire(import.meta.url);
const { keccak256 } = require("js-sha3");
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const out = path.join(root, "artifacts");

/** What is deployed, and the interfaces that others bind to. */
const PUBLISHED = ["JobMarketplace", "HostEarnings", "HostRegistry", "TestUSDC", "IRiscZeroVerifier", "CertificateVerifier"];
/** Test marketplaces, one for each generation that others deployed, and what stands around them. */
const GENERATIONS = [
  "BytesForm",
  "HashForm",
  "PreciseHashForm",
  "SignedForm",
  "SignedDeltaForm",
  "TimeoutForm",
  "DeployedEarnings",
  "StorageProxy",
  "BeaconedProxy",
  "Cloner",
];
/** EIP-170: a larger contract cannot be deployed. */
const MAX_DEPLOYED_BYTES = 24576;
/** Must equal foundry.toml, so that tests run the very code that is shipped; `build` checks that they do. */
export const SETTINGS = {
  evmVersion: "cancun",
  viaIR: true,
  optimizer: { enabled: true, runs: 1000000 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

function solidityFiles(directory) {
  return readdirSync(path.join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const name = path.posix.join(directory, entry.name);
    if (entry.isDirectory()) return solidityFiles(name);
    return entry.name.endsWith(".sol") ? [name] : [];
  });
}

/** All sources reachable from src/ and generations/, by the names that imports resolve to. */
function gather() {
  const sources = {};
  const queue = [...solidityFiles("src"), ...solidityFiles("generations")].sort();
  while (queue.length > 0) {
    const name = queue.shift();
    if (sources[name]) continue;
    const file = name.startsWith("@") ? path.join(root, "node_modules", name) : path.join(root, name);
    const content = readFileSync(file, "utf8");
    sources[name] = { content };
    for (const [, target] of content.matchAll(/^import\s[^"';]*["']([^"']+)["'];/gm)) {
      queue.push(target.startsWith(".") ? path.posix.join(path.posix.dirname(name), target) : target);
    }
  }
  return sources;
}

function canonicalType(parameter) {
  if (!parameter.type.startsWith("tuple")) return parameter.type;
  return `(${parameter.components.map(canonicalType).join(",")})${parameter.type.slice("tuple".length)}`;
}

function identifiers(abi, type, digits) {
  const entries = abi
    .filter((item) => item.type === type)
    .map((item) => `${item.name}(${item.inputs.map(canonicalType).join(",")})`)
    .sort()
    .map((signature) => [signature, `0x${keccak256(signature).slice(0, digits)}`]);
  return Object.fromEntries(entries);
}

function build() {
  const output = compile({
    language: "Solidity",
    sources: gather(),
    settings: {
      ...SETTINGS,
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  });
  const problems = (output.errors ?? []).filter((e) => e.severity === "error" || !e.formattedMessage.includes("@openzeppelin"));
  for (const problem of problems) console.error(problem.formattedMessage);
  if (problems.length > 0) throw new Error("the contracts do not compile without errors and warnings");

  const artifacts = new Map();
  const published = [
    ...PUBLISHED.map((name) => ["src/", name, `${name}.json`]),
    ...GENERATIONS.map((name) => ["generations/", name, `generations/${name}.json`]),
  ];
  for (const [directory, name, target] of published) {
    const contracts = Object.entries(output.contracts).filter(([file, all]) => file.startsWith(directory) && all[name]);
    if (contracts.length !== 1) throw new Error(`expected one contract ${name}, found ${contracts.length}`);
    const { abi, evm } = contracts[0][1][name];
    const size = evm.deployedBytecode.object.length / 2;
    if (size > MAX_DEPLOYED_BYTES) throw new Error(`${name} has ${size} bytes, more than ${MAX_DEPLOYED_BYTES}`);
    const artifact = {
      abi,
      bytecode: `0x${evm.bytecode.object}`,
      deployedBytecode: `0x${evm.deployedBytecode.object}`,
      methodIdentifiers: identifiers(abi, "function", 8),
      errorIdentifiers: identifiers(abi, "error", 8),
      eventTopics: identifiers(abi, "event", 64),
      compiler: { version: version(), settings: SETTINGS },
    };
    artifacts.set(target, `${JSON.stringify(artifact, null, 2)}\n`);
    console.log(`${name.padEnd(18)} ${String(size).padStart(6)} bytes deployed`);
  }
  return artifacts;
}

function compareFoundrySettings() {
  const toml = readFileSync(path.join(root, "foundry.toml"), "utf8");
  const expected = {
    evm_version: `"${SETTINGS.evmVersion}"`,
    via_ir: String(SETTINGS.viaIR),
    optimizer: String(SETTINGS.optimizer.enabled),
    optimizer_runs: String(SETTINGS.optimizer.runs),
    bytecode_hash: `"${SETTINGS.metadata.bytecodeHash}"`,
    cbor_metadata: String(SETTINGS.metadata.appendCBOR),
  };
  for (const [key, value] of Object.entries(expected)) {
    const found = toml.match(new RegExp(`^${key} *= *(.+)$`, "m"))?.[1];
    if (found !== value) throw new Error(`foundry.toml: ${key} is ${found}, the build uses ${value}`);
  }
}

compareFoundrySettings();
const artifacts = build();
if (process.argv.includes("--check")) {
  const committed = existsSync(out) ? readdirSync(out, { recursive: true }).filter((name) => name.endsWith(".json")) : [];
  const names = [...new Set([...artifacts.keys(), ...committed])].sort();
  const different = names.filter((name) => {
    const file = path.join(out, name);
    return !artifacts.has(name) || !existsSync(file) || readFileSync(file, "utf8") !== artifacts.get(name);
  });
  if (different.length > 0) {
    console.error(`artifacts out of date: ${different.join(", ")}; run scripts/contracts build`);
    process.exit(1);
  }
  console.log("artifacts are up to date");
} else {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(path.join(out, "generations"), { recursive: true });
  for (const [name, text] of artifacts) writeFileSync(path.join(out, name), text);
  console.log(`wrote ${artifacts.size} artifacts`);
}
