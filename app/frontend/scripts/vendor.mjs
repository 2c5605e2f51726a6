/**
 * Bundle the third-party modules of the page into one file, with its hash and licences beside it.
 *
 *   node scripts/vendor.mjs          write static/vendor/ again (byte for byte the same for the same lock file)
 *   node scripts/vendor.mjs --check  fail when what is committed is not what would be written
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const target = join(here, "../src/hockey_hub_chat/web/static/vendor");
const packages = ["preact", "@preact/signals", "@preact/signals-core", "htm"];

const facts = packages.map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return { name, version, license, text: readFileSync(join(folder, "LICENSE"), "utf8").trim() };
});

const result = await build({
  absWorkingDir: here,
  entryPoints: ["vendor-entry.js"],
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  charset: "utf8",
  legalComments: "none",
  banner: { js: `/* ${facts.map((f) => `${f.name} ${f.version} (${f.license})`).join(", ")}. See README. */` },
  write: false,
});

const [output] = result.outputFiles;
const [preact] = facts;
if (!output || !preact) throw new Error("esbuild wrote nothing");
const bundle = output.contents;
const fileName = `preact-${preact.version}.js`;
const types =
  '// For tsc alone: the types of the bundle beside this file.\nexport * from "../../../../../frontend/vendor-entry.js";\n';
const readme = [
  "Third-party modules of the chat page, bundled into one file. Do not edit: `npm run vendor` in app/frontend writes it.",
  "",
  `file    ${fileName}`,
  `bytes   ${bundle.length}`,
  `sha256  ${createHash("sha256").update(bundle).digest("hex")}`,
  "",
  ...facts.map((f) => `${f.name} ${f.version}  ${f.license}`),
  "",
  ...facts.flatMap((f) => ["-".repeat(100), `${f.name} ${f.version}`, "", f.text, ""]),
].join("\n");

const wanted = new Map([
  [fileName, Buffer.from(bundle)],
  [fileName.replace(/js$/, "d.ts"), Buffer.from(types)],
  ["README", Buffer.from(readme)],
]);

if (process.argv.includes("--check")) {
  const present = existsSync(target) ? readdirSync(target).sort() : [];
  const wrong = [...wanted].filter(
    ([name, data]) => !present.includes(name) || !readFileSync(join(target, name)).equals(data),
  );
  const extra = present.filter((name) => !wanted.has(name));
  if (wrong.length || extra.length) {
    console.error(
      `static/vendor is not what the lock file makes: ${[...wrong.map(([n]) => n), ...extra].join(", ")}. Run: npm run vendor`,
    );
    process.exit(1);
  }
  const importer = readFileSync(join(target, "../js/lib.js"), "utf8");
  if (!importer.includes(`"../vendor/${fileName}"`)) {
    console.error(`static/js/lib.js does not import ../vendor/${fileName}`);
    process.exit(1);
  }
} else {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const [name, data] of wanted) writeFileSync(join(target, name), data);
  console.log(`${fileName}: ${bundle.length} bytes`);
}
