// Writes package-lock.json anew and names in it every platform's optional package. npm leaves out those that its
// registry does not serve at that moment, and `npm ci` then refuses the lock file as incomplete on every platform.
// An entry made here has a version but no checksum; one that npm made has both.
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const file = path.join(root, "package-lock.json");
const CPU = { amd64: "x64", arm64: "arm64" };

rmSync(file, { force: true });
execFileSync("npm", ["install", "--package-lock-only"], { cwd: root, stdio: "inherit" });
const lock = JSON.parse(readFileSync(file, "utf8"));
for (const entry of Object.values({ ...lock.packages })) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const [os, cpu] = name.split("-").slice(-2);
    if (!CPU[cpu]) throw new Error(`${name}: no platform in its name`);
    lock.packages[`node_modules/${name}`] ??= { version, cpu: [CPU[cpu]], dev: true, optional: true, os: [os] };
  }
}
const [own, ...rest] = Object.entries(lock.packages);
rest.sort(([a], [b]) => (a < b ? -1 : 1));
lock.packages = Object.fromEntries([own, ...rest]);
const text = `${JSON.stringify(lock, null, 2)}\n`;
if (text.includes('"resolved"')) throw new Error("the lock file holds download addresses");
writeFileSync(file, text);
