// The compiler as both forge and our build call it: solc-js answering `--version` and `--standard-json`.
// Forge wants a native binary; the npm package is wasm, so this file stands in for one (see foundry.toml).
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(import.meta.url);

/** Compiles a standard-JSON input object and returns the output object. */
export function compile(input) {
  return JSON.parse(require("solc").compile(JSON.stringify(input)));
}

/** Version as `solc --version` spells it, for example `0.8.37+commit.abcdef01.Emscripten.clang`. */
export function version() {
  return require("solc").version();
}

export function main(args) {
  if (args.includes("--version")) {
    console.log("solc, the solidity compiler commandline interface");
    console.log(`Version: ${version()}`);
    return;
  }
  if (args.includes("--standard-json")) {
    // Forge passes all sources inline, so no import callback is needed.
    process.stdout.write(require("solc").compile(readFileSync(0, "utf8")));
    return;
  }
  console.error(`solc wrapper: unsupported arguments: ${args.join(" ")}`);
  process.exit(2);
}
