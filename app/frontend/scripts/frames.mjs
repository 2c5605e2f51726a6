/**
 * Generate types/frames.d.ts from the JSON Schema that the server exports, so that the page and the server cannot disagree.
 *
 *   node scripts/frames.mjs          write it
 *   node scripts/frames.mjs --check  fail when the committed file is not current
 *
 * The schema comes from hockey_hub_chat.events.frames_schema(), asked of the Python in $PYTHON or build/venv/app.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const target = join(here, "types/frames.d.ts");
const python = process.env.PYTHON || join(here, "../../build/venv/app/bin/python");

/** @param {any} schema @returns {string} */
function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((/** @type {unknown} */ v) => JSON.stringify(v)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  switch (schema.type) {
    case "string":
      return "string";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "null":
      return "null";
    case "array":
      return `Array<${typeOf(schema.items)}>`;
    case "object": {
      if (schema.properties) return interfaceBody(schema, () => false);
      const [values] = schema.patternProperties
        ? Object.values(schema.patternProperties)
        : [schema.additionalProperties];
      return `Record<string, ${values && values !== true ? typeOf(values) : "unknown"}>`;
    }
    default:
      throw new Error(`frames.mjs does not know this schema: ${JSON.stringify(schema)}`);
  }
}

/** @param {any} schema @param {(name: string) => boolean} always fields that are present although they have a default */
function interfaceBody(schema, always) {
  const lines = Object.entries(schema.properties).map(([name, field]) => {
    const optional = !(schema.required ?? []).includes(name) && !always(name);
    return `  ${name}${optional ? "?" : ""}: ${typeOf(field)};`;
  });
  return `{\n${lines.join("\n")}\n}`;
}

/** @param {string} name @param {any} schema @param {boolean} sentByServer the server always writes its defaults */
function direction(name, schema, sentByServer) {
  const parts = Object.entries(schema.$defs).map(([title, def]) => {
    const text = /** @type {any} */ (def).description ?? "";
    return `/** ${text.replaceAll("``", "`").replaceAll(/\s*\n\s*/g, " ")} */\nexport interface ${title} ${interfaceBody(def, () => sentByServer)}\n`;
  });
  const members = schema.oneOf.map(typeOf).join(" | ");
  return `${parts.join("\n")}\nexport type ${name} = ${members};\n`;
}

const printed = execFileSync(
  python,
  ["-c", "import json; from hockey_hub_chat.events import frames_schema; print(json.dumps(frames_schema()))"],
  { encoding: "utf8", env: { ...process.env, PYTHONPATH: join(here, "../src") } },
);
const schema = JSON.parse(printed);
const text = `// Made by \`npm run frames\` from hockey_hub_chat.events. Do not edit.

export type ProtocolVersion = ${schema.protocol};

// From the client.

${direction("ClientFrame", schema.client, false)}
// To the client.

${direction("ServerFrame", schema.server, true)}`;

if (process.argv.includes("--check")) {
  if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
    console.error("types/frames.d.ts is not what hockey_hub_chat.events says. Run: npm run frames");
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
  console.log(`types/frames.d.ts: ${text.length} characters`);
}
