/**
 * A page in Markdown → roff on stdout, for man(1), by marked-man: `bun man/render.ts man/mt-boot.1.md`.
 * Comments are left out, and the lines of a paragraph are joined. A line with two spaces before it explains the line
 * above it; after an empty line it begins another paragraph of that explanation.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Stands before each further paragraph of an explanation. */
const FURTHER = "@further@";

/** The text for marked-man: the only line break left is that between a term and its explanation. */
function joined(markdown: string): string {
  const out: string[] = [];
  for (const line of markdown.replaceAll(/^<!--.*-->\n\n?/gm, "").split("\n")) {
    const last = out.at(-1) ?? "";
    const text = (l: string) => l !== "" && !/^(#| {4}|[-*] |\d+\. )/.test(l);
    const explained = last.startsWith("  ") || last.startsWith(FURTHER);
    if (/^ {2}\S/.test(line) && text(last) && !explained) out.push(line);
    else if (/^ {2}\S/.test(line) && last === "") out.push(`${FURTHER} ${line.trim()}`);
    else if (
      /^( {2,3})?\S/.test(line) &&
      last !== "" &&
      !/^(#| {4})/.test(last) &&
      !/^([-*] |\d+\. |#)/.test(line)
    )
      out[out.length - 1] = `${last} ${line.trim()}`;
    else out.push(line);
  }
  return out.join("\n");
}

/** An apostrophe is written as \(aq: at the beginning of a line roff takes a bare one for a request. */
const CHARACTERS: Readonly<Record<string, string>> = {
  "#39": "\\(aq",
  quot: '"',
  lt: "<",
  gt: ">",
  amp: "&",
};

const page = process.argv[2] ?? "";
const markedMan = join(import.meta.dirname, "../node_modules/.bin/marked-man");
const done = spawnSync(markedMan, [], { input: joined(readFileSync(page, "utf8")), encoding: "utf8" });
if (done.status !== 0) {
  process.stderr.write(`Cannot render ${page}: ${done.stderr}\n`);
  process.exitCode = 1;
} else {
  process.stdout.write(
    done.stdout
      // A break is only between a term and its explanation.
      .replaceAll(/^\.P\n(.+)\n\.br\n/gm, ".TP\n$1\n")
      .replaceAll(`.P\n${FURTHER} `, ".IP\n")
      // In blocks of code marked-man leaves what is written for a browser.
      .replaceAll(/&(#39|quot|lt|gt|amp);/g, (_, name: string) => CHARACTERS[name]!),
  );
}
