/** Completions as the shells themselves give them: commands, flags, values of a choice. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { completion } from "../../shared/cli/completion.ts";
import { SHELLS, type ToolSpec } from "../../shared/cli/spec.ts";
import { spec as boot } from "../../tools/mt-boot/spec.ts";
import { spec as launch } from "../../tools/mt-launch/spec.ts";
import { spec as push } from "../../tools/mt-push/spec.ts";
import { spec as topo } from "../../tools/mt-topo/spec.ts";
import { tempDir } from "../unit/shared/fixtures.ts";

function shell(file: string, args: string[]): string {
  const done = spawnSync(file, args, { encoding: "utf8", timeout: 30_000 });
  expect([done.status, done.stderr]).toEqual([0, ""]);
  return done.stdout;
}
const has = (file: string) => spawnSync(file, ["-c", ":"]).status === 0;

/** What bash offers for the last word. */
function offered(tool: ToolSpec, words: string[]): string[] {
  const script = `${completion(tool, "bash")}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _${tool.name.replaceAll("-", "_")}; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return shell("bash", ["-c", script, "bash", ...words])
    .split("\n")
    .filter(Boolean);
}

describe("bash", () => {
  test.each<[ToolSpec, string, string[]]>([
    [boot, "mt-boot resu", ["resume"]],
    [boot, "mt-boot supe", []],
    [boot, "mt-boot up --acc", ["--accel"]],
    [boot, "mt-boot ls --acc", []],
    [boot, "mt-boot up --accel k", ["kvm"]],
    [boot, "mt-boot up --accel = t", ["tcg"]],
    [boot, "mt-boot up --jobs 4 --ready", ["--ready-timeout"]],
    [boot, "mt-boot up --jobs 4", []],
    [boot, "mt-boot exec g0 -- --t", []],
    [boot, "mt-boot --completion z", ["zsh"]],
    [boot, "mt-boot --ver", ["--version"]],
    [topo, "mt-topo gen r", ["ring"]],
    [push, "mt-push --re", ["--retries"]],
    [push, "mt-push --only --re", ["--retries"]],
    [launch, "mt-launch d", ["down"]],
    [launch, "mt-launch up --h", ["--hosts", "--help"]],
    [launch, "mt-launch up --via l", ["local"]],
    [launch, "mt-launch down --ho", []],
  ])("%#: %s", (tool, line, expected) => {
    expect(offered(tool, line.split(" "))).toEqual(expected);
  });
});

describe.skipIf(!has("fish"))("fish", () => {
  test.each<[ToolSpec, string, string[]]>([
    [boot, "mt-boot resu", ["resume"]],
    [boot, "mt-boot up --acc", ["--accel"]],
    [boot, "mt-boot up --accel k", ["kvm"]],
    [topo, "mt-topo gen ri", ["ring"]],
    [push, "mt-push --re", ["--retries"]],
    [launch, "mt-launch up --fan", ["--fanout"]],
  ])("%#: %s", (tool, line, expected) => {
    const out = shell("fish", ["--no-config", "-c", `${completion(tool, "fish")}\ncomplete -C '${line}'`]);
    expect(
      out
        .split("\n")
        .filter(Boolean)
        .map((l) => l.split("\t")[0]),
    ).toEqual(expected);
  });
});

describe.skipIf(!has("zsh"))("zsh", () => {
  test.each([boot, launch, push, topo])(
    "$name: the script is one that it can read, and defines the completion",
    (tool) => {
      const file = join(tempDir(), `_${tool.name}`);
      writeFileSync(file, completion(tool, "zsh"));
      const script = 'autoload -Uz compinit; compinit -D -u; source "$1"; print -r -- $_comps[$2]';
      expect(shell("zsh", ["-f", "-c", script, "zsh", file, tool.name])).toBe(
        `_${tool.name.replaceAll("-", "_")}\n`,
      );
    },
  );
});

test("no shell is offered what only our programs call", () => {
  for (const s of SHELLS) expect(completion(boot, s)).not.toMatch(/supervise\b/);
});
