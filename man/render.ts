/**
 * A page in Markdown → roff on stdout, for man(1), by marked-man: `bun man/render.ts man/mt-boot.1.md`.
 * Comments are left out, lines of a paragraph flow, and a line with two spaces before it is what the line
 * above it means.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** What marked-man is to see: only the break between a term and its meaning stays one. */
function flowing(markdown: string): string {
  const out: string[] = [];
  for (const line of markdown.replaceAll(/^<!--.*-->\n\n?/gm, "").split("\n")) {
    const last = out.at(-1) ?? "";
    const text = (l: string) => l !== "" && !/^(#| {4}|[-*] |\d+\. )/.test(l);
    if (/^ {2}\S/.test(line) && text(last) && !last.startsWith("  ")) out.push(`${line}`);
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

/** An apostrophe of ASCII, wherever it stands: at the begin of a line a bare one is a request. */
const CHARACTERS: Readonly<Record<string, string>> = {
  "#39": "\\(aq",
  quot: '"',
  lt: "<",
  gt: ">",
  amp: "&",
};

const page = process.argv[2] ?? "";
const markedMan = join(import.meta.dirname, "../node_modules/.bin/marked-man");
const done = spawnSync(markedMan, [], { input: flowing(readFileSync(page, "utf8")), encoding: "utf8" });
if (done.status !== 0) {
  process.stderr.write(`Cannot render ${page}: ${done.stderr}\n`);
  process.exitCode = 1;
} else {
  process.stdout.write(
    done.stdout
      // A break is left only between a term and its meaning.
      .replaceAll(/^\.P\n(.+)\n\.br\n/gm, ".TP\n$1\n")
      // In blocks of code marked-man leaves what is written for a browser.
      .replaceAll(/&(#39|quot|lt|gt|amp);/g, (_, name: string) => CHARACTERS[name]!),
  );
}
