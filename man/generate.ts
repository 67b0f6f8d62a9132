/**
 * Writes what is generated from the sources: parts of the pages of man/, mt-records(5), schemas/. With --check
 * (`make check`) it writes nothing, and says what differs; `make man` corrects that.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { ToolSpec } from "../shared/cli/spec.ts";
import { KINDS, type Kind } from "../shared/records/index.ts";
import { kindSchema } from "../shared/records/json-schema.ts";
import { brokenReferences, missingFlags } from "./check.ts";
import { recordsPage } from "./records.ts";
import { exitTable, PARTS } from "./tables.ts";

const root = join(import.meta.dirname, "..");
const wrong: string[] = [];
/** The text that each file should have, by path. */
const files = new Map<string, string>();

const tools: ToolSpec[] = [];
for (const name of readdirSync(join(root, "tools")).sort())
  for (const path of [`${name}/spec.ts`, `${name}-spec.ts`])
    if (existsSync(join(root, "tools", path)))
      tools.push(((await import(`../tools/${path}`)) as { spec: ToolSpec }).spec);

for (const tool of tools) {
  const path = `man/${tool.name}.1.md`;
  if (!existsSync(join(root, path))) wrong.push(`${path}: ${tool.name} has no page`);
  else {
    const parts = Object.entries(PARTS).map(([part, write]) => [part, () => write(tool)] as const);
    files.set(path, fill(path, readFileSync(join(root, path), "utf8"), Object.fromEntries(parts)));
  }
}
files.set("man/mt-records.5.md", recordsPage());
const suite = readFileSync(join(root, "man/megatux.7.md"), "utf8");
files.set("man/megatux.7.md", fill("man/megatux.7.md", suite, { exit: exitTable }));
for (const kind of Object.keys(KINDS) as Kind[])
  files.set(`schemas/${kind}.schema.json`, `${JSON.stringify(kindSchema(kind), undefined, 2)}\n`);

/** The page with the parts between `<!-- generated: X -->` and `<!-- end -->` written anew. A page must have every part. */
function fill(path: string, page: string, parts: Readonly<Record<string, () => string>>): string {
  const found = new Set<string>();
  const text = page.replaceAll(
    /^<!-- generated: (\w+) -->\n[\s\S]*?^<!-- end -->$/gm,
    (whole: string, part: string) => {
      found.add(part);
      return parts[part] ? `<!-- generated: ${part} -->\n\n${parts[part]()}\n\n<!-- end -->` : whole;
    },
  );
  for (const part of new Set([...Object.keys(parts), ...found]))
    if (!parts[part] || !found.has(part))
      wrong.push(
        `${path}: ${parts[part] ? "lacks" : "has an unknown"} <!-- generated: ${part} --> … <!-- end -->`,
      );
  return text;
}

const check = process.argv[2] === "--check";
for (const [path, text] of files) {
  const file = join(root, path);
  if (existsSync(file) && readFileSync(file, "utf8") === text) continue;
  if (check) wrong.push(`${path} is not what its sources say: run make man`);
  else writeFileSync(file, text);
}
for (const name of readdirSync(join(root, "schemas")))
  if (!files.has(`schemas/${name}`)) {
    if (check) wrong.push(`schemas/${name} is of no kind: run make man`);
    else rmSync(join(root, "schemas", name));
  }

const pages = new Map<string, string>();
for (const file of readdirSync(join(root, "man")).filter((f) => f.endsWith(".md")))
  pages.set(basename(file, ".md"), files.get(`man/${file}`) ?? readFileSync(join(root, "man", file), "utf8"));
wrong.push(...brokenReferences(pages, tools));
for (const tool of tools) wrong.push(...missingFlags(tool, pages.get(`${tool.name}.1`) ?? ""));

for (const line of wrong) process.stderr.write(`${line}\n`);
process.exitCode = wrong.length > 0 ? 1 : 0;
