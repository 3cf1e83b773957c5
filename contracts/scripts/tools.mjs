// Where the native forge, anvil and cast lie. The commands that npm links are wrappers: they end with 0 whatever the
// tool's exit status, and killed with SIGKILL they leave the tool running.
// As a program: prints the path of the tool it is given.
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const CPU = { x64: "amd64", arm64: "arm64" };

export function tool(name) {
  const suffix = process.platform === "win32" ? ".exe" : "";
  const platform = `${process.platform}-${CPU[process.arch]}`;
  const file = path.join(root, "node_modules", "@foundry-rs", `${name}-${platform}`, "bin", `${name}${suffix}`);
  if (!existsSync(file)) throw new Error(`${name} is not installed for ${platform}: run npm ci in contracts/`);
  return file;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(tool(process.argv[2]));
