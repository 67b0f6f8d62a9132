/** The pages of man/ against the specs of the tools: a page has all that its tool has, and names nothing that no tool has. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { commandHelp, toolHelp } from "../../shared/cli/help.ts";
import type { ToolSpec } from "../../shared/cli/spec.ts";
import { argsOf } from "../../shared/cli/spec.ts";
import { ROOT, specFile } from "../unit/shared/fixtures.ts";

const tools = readdirSync(join(ROOT, "tools")).filter(
  (t) => existsSync(join(ROOT, "tools", t, "main.ts")) && t !== "mt",
);
const page = (tool: string) => readFileSync(join(ROOT, "man", `${tool}.1.md`), "utf8");
const specOf = async (tool: string) => ((await import(specFile(tool))) as { spec: ToolSpec }).spec;

test("mt carries every tool that there is", () => {
  const carried = [
    ...readFileSync(join(ROOT, "tools/mt/tools.ts"), "utf8").matchAll(/^ *"(mt-[a-z]+)":/gm),
  ].map((m) => m[1]);
  expect(carried.sort()).toEqual(tools.sort());
});

describe.each([...tools, "mt-launch"])("%s", (tool) => {
  test("has a page with the usual parts, and every command stands in it", async () => {
    const text = page(tool);
    // NAME is the title line: "# mt-x(1) -- what it is".
    expect(text).toMatch(new RegExp(`^# ${tool}\\(1\\) -- \\S`));
    for (const part of ["SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "SEE ALSO"])
      expect(text).toMatch(new RegExp(`^#+ ${part}`, "m"));
    const spec = await specOf(tool);
    for (const [command, c] of Object.entries(spec.commands))
      if (!c.hidden) expect(text, command).toMatch(new RegExp(`\\b${command}\\b`));
  });

  test("every flag stands in the help of its command, with what it does", async () => {
    const spec = await specOf(tool);
    for (const [command, c] of Object.entries(spec.commands)) {
      const help = commandHelp(spec, command);
      for (const [flag, a] of Object.entries(argsOf(c))) {
        expect(a.description, `${command} ${flag}`).toBeTruthy();
        if (a.type !== "positional") expect(help, `${command} ${flag}`).toContain(`--${flag}`);
      }
    }
  });

  test("page and examples name no command and no flag that the tool does not have", async () => {
    const spec = await specOf(tool);
    const flags = new Set([
      "version",
      "completion",
      ...Object.values(spec.commands).flatMap((c) => Object.keys(argsOf(c))),
    ]);
    const lines = `${page(tool)}\n${toolHelp(spec)}`.split("\n");
    for (const line of lines) {
      for (const [, command] of line.matchAll(new RegExp(`(?:^|[\`|(] ?)${tool} ([a-z]+)\\b`, "gm"))) {
        if (!line.includes(`${tool} ${command} `) && !line.trimEnd().endsWith(command!)) continue;
        if (/[`]|^ {2,}|^\$/.test(line)) expect(Object.keys(spec.commands), line).toContain(command);
      }
      // Flags of this tool's own calls: up to the next program in the pipe, or the command after --.
      for (const [, call] of line.matchAll(new RegExp(`\\b${tool} ([^|\`;]*)`, "g")))
        for (const [, flag] of call!.split(/ -- /)[0]!.matchAll(/ --(?:no-)?([a-z][a-z-]*)/g))
          expect([...flags], line).toContain(flag);
    }
  });
});

/** As `make install` renders it and man shows it on a terminal of 80 columns. */
describe.each(readdirSync(join(ROOT, "man")).filter((f) => f.endsWith(".md")))("%s, rendered", (file) => {
  test("fits into 80 columns, and nothing in it is written for a browser or unknown to roff", () => {
    const bun = join(ROOT, ".build/bun/node_modules/.bin/bun");
    const roff = spawnSync(bun, [join(ROOT, "man/render.ts"), join(ROOT, "man", file)], { encoding: "utf8" });
    expect([roff.status, roff.stderr]).toEqual([0, ""]);
    expect(roff.stdout.match(/&(#\w+|[a-z]+);/g)).toBeNull();
    const shown = spawnSync("man", ["--warnings=w", "-l", "-"], {
      input: roff.stdout,
      encoding: "utf8",
      env: { ...process.env, MANWIDTH: "80", LC_ALL: "C.UTF-8", MAN_KEEP_FORMATTING: "", GROFF_NO_SGR: "1" },
    });
    expect([shown.status, shown.error]).toEqual([0, undefined]);
    const text = shown.stdout.replaceAll(/.\x08/g, "");
    expect(text).toMatch(/^NAME$/m);
    expect(text.split("\n").filter((line) => [...line].length > 80)).toEqual([]);
    // Every apostrophe is there: roff would drop a line that begins with a bare one.
    const quotes = (t: string) => t.match(/'/g)?.length ?? 0;
    const source = readFileSync(join(ROOT, "man", file), "utf8").replaceAll(/^<!--.*-->$/gm, "");
    expect(quotes(text)).toBe(quotes(source));
  });
});
