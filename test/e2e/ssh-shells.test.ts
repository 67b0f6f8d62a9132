/**
 * Hosts whose login shells print or read: what a profile prints before, beside and after our script, without an end of
 * line, or reads from stdin, keeps no host out. Real sshd, compiled binaries.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { records } from "./lab.ts";
import { Testbed } from "./testbed.ts";

const dist = resolve(import.meta.dirname, "../../dist");
const NAME = "mtsh";
/** By host, from 1: its shell, and the profile that this shell reads. */
const SHELLS: [what: string, file: string, text: string, shell?: string][] = [
  ["a word without an end of line", ".bashrc", "printf Welcome"],
  ["a terminal's title", ".bashrc", "printf '\\033]0;%s\\007' \"$HOSTNAME\""],
  [
    "a banner with our marker in it, a prompt, and a last word",
    ".bashrc",
    "printf '\\n*** @mt end of terms *** @mt failed\\n@mt\\r\\n$ '; trap 'printf Bye' EXIT",
  ],
  ["a question", ".bashrc", 'read -r -p "Press Enter" x; read -r -n 1 -p "Sure? [Y/n] " y'],
  ["much, without an end of line", ".bashrc", "head -c 300000 /dev/zero | tr '\\0' '@'; printf '\\r'"],
  ["zsh that prints", ".zshenv", "printf Welcome", "/usr/bin/zsh"],
  ["fish that prints", ".config/fish/config.fish", "printf Welcome", "/usr/bin/fish"],
  // A site's own shell, such as a menu or a logger: it prints something before and after.
  [
    "a wrapper that prints when it ends, and ends with a code of its own",
    "wrapper",
    "#!/bin/bash\nprintf 'hello '; /bin/bash \"$@\"; printf 'logged out'; exit 3\n",
    `/tmp/testbed-${NAME}/wrapper`,
  ],
];
const N = SHELLS.length + 1;
/** On the last host, what its profile started goes on printing. */
const BACKGROUND = "(for i in 1 2 3 4 5 6 7 8 9 10; do printf '<%s>' $i; sleep 0.05; done) &";

describe.skipIf(process.getuid?.() !== 0)("login shells that talk (needs root)", { timeout: 120_000 }, () => {
  let bed: Testbed;
  const hosts = Array.from({ length: N }, (_, k) => `${NAME}${k + 1}`);
  const states = (text: string) =>
    records(text).map((r) => [r.id, r.state, (r.error as { message?: string })?.message]);
  const put = (host: number, file: string, text: string) => {
    const path = `/tmp/testbed-${NAME}/profile${host}`;
    writeFileSync(path, text, { mode: 0o755 });
    bed.on(host, `mkdir -p ~/${file.replace(/[^/]*$/, "")}; cp ${path} ~/${file}`);
  };

  beforeAll(() => {
    bed = new Testbed(NAME, N);
    for (const [k, [, file, text, shell]] of SHELLS.entries()) {
      const host = k + 1;
      put(host, file, text);
      if (!shell) continue;
      if (file === "wrapper") writeFileSync(shell, text, { mode: 0o755 });
      const passwd = readFileSync("/etc/passwd", "utf8").replace(/^(root:.*:)[^:]*$/m, `$1${shell}`);
      put(host, "passwd", passwd);
      expect(bed.on(host, "mount --bind ~/passwd /etc/passwd").code).toBe(0);
    }
    put(N, ".bashrc", BACKGROUND);
    // The binary is brought to two, over a shell that talks; the others have it.
    for (const k of hosts.keys())
      if (k > 1) bed.on(k + 1, `mount -t tmpfs tmpfs /usr/local/bin; ln -s ${dist}/mt* /usr/local/bin`);
  }, 60_000);
  afterAll(() => {
    bed?.on(0, "mt-tree down");
    bed?.down();
  });

  test(`each joins: ${SHELLS.map(([what]) => what).join("; ")}; a job in the background`, () => {
    const up = bed.on(0, `mt-tree up '${NAME}[1-${N}]' --via ssh --fanout 4`);
    expect([up.code, up.stderr]).toEqual([0, ""]);
    expect(states(up.stdout)).toEqual(hosts.map((id) => [id, "up", undefined]));
    for (const r of records(up.stdout)) expect([r.cores, r.mem_mib]).not.toContain(1);
    const said = records(bed.on(0, "mt-tree exec @all -- hostname").stdout).map((r) => r.stdout);
    expect(said.sort()).toEqual(hosts.map((h) => `${h}\n`).sort());
    // One that was killed comes back by the same shells, and down reaches them all.
    for (const k of [1, 4, 8]) bed.on(k, 'kill -9 "$(cat /run/megatux/agents/*/agent.pid)"');
    const healed = bed.on(0, "mt-tree up");
    expect([healed.code, states(healed.stdout)]).toEqual([0, hosts.map((id) => [id, "up", undefined])]);
    bed.on(0, 'kill -9 "$(cat /run/megatux/tree/head.pid)"');
    expect(bed.on(0, "mt-tree down")).toEqual({ code: 0, stdout: "", stderr: "" });
    for (const k of hosts.keys()) expect(bed.on(k + 1, "ls /run/megatux").code).not.toBe(0);
  });

  test("with --no-port, where the same connection carries the link", () => {
    // Output of other programs on a link that is up cannot be told from frames.
    const up = bed.on(0, `mt-tree up '${NAME}[1-${N - 1}]' --via ssh --no-port`);
    expect([up.code, up.stderr]).toEqual([0, ""]);
    expect(states(up.stdout)).toEqual(hosts.slice(0, -1).map((id) => [id, "up", undefined]));
    const said = records(bed.on(0, "mt-tree exec @all -- hostname").stdout).map((r) => r.stdout);
    expect(said).toHaveLength(N - 1);
    expect(bed.on(0, "mt-tree down")).toEqual({ code: 0, stdout: "", stderr: "" });
  });
});
