/** What mt-tree --via ssh makes of ssh's words, and how a bare host fetches the binary with whatever program it has. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { marked } from "../../../tools/mt-tree/via/marker.ts";
import {
  bootstrapError,
  FETCH,
  HAND_ON,
  LINK,
  PROBE,
  START,
  STOP,
} from "../../../tools/mt-tree/via/ssh/bootstrap.ts";
import { sshArgv, sshError, stdinOf, withVariables } from "../../../tools/mt-tree/via/ssh/run.ts";

test.each([
  [
    "ssh: Could not resolve hostname kn9: Name or service not known",
    "unavailable",
    "its name does not resolve",
  ],
  ["ssh: connect to host kn9 port 22: Connection refused", "unavailable", "connection refused"],
  ["ssh: connect to host kn9 port 22: No route to host", "unavailable", "no route"],
  ["ssh: connect to host kn9 port 22: Connection timed out", "timeout", "the connection timed out"],
  ["Connection timed out during banner exchange", "timeout", "says nothing"],
  ["kex_exchange_identification: Connection closed by remote host", "lost", "closed the connection"],
  ["kn9: Permission denied (publickey).", "permission", "no key of ours"],
  ["Host key verification failed.", "permission", "not known"],
  [
    "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\nHost key verification failed.",
    "permission",
    "another",
  ],
  ["Bad configuration option: foo", "unavailable", "Bad configuration option: foo"],
])("ssh says %j: %s", (stderr, code, message) => {
  const error = sshError("kn9", stderr);
  expect(error.code).toBe(code);
  expect(error.message).toMatch(/^Cannot reach host kn9: /);
  expect(error.message).toContain(message);
});

test("a host's own words become errors that say what to do", () => {
  expect(bootstrapError("kn1", "space /root/.cache", 7420)).toMatchObject({ code: "io" });
  const busy = bootstrapError("kn1", "agent Error: listen EADDRINUSE: address already in use", 7420);
  expect(busy).toMatchObject({
    code: "busy",
    message: "Cannot start the agent on kn1: port 7420 is in use there",
  });
  expect(bootstrapError("kn1", "old mt-tree 0.0.9", 7420).hint).toContain("--upgrade");
});

test("our own lines are known wherever they begin, by the last marker in them", () => {
  expect(marked("@mt cores 2")).toBe("cores 2");
  expect(marked("Welcome@mt cores 2")).toBe("cores 2");
  expect(marked("\x1b]0;kn1: @mt\x07@mt @mt end")).toBe("end");
  expect(marked("@mt")).toBeUndefined();
  expect(marked("Welcome")).toBeUndefined();
});

test("no value of a variable is read by a shell, and the command line has no word of the script", () => {
  const evil = "a'b$(touch /tmp/never)\"`id`\\\\ c";
  const script = withVariables({ value: evil }, 'printf %s "$value"');
  expect(spawnSync("sh", ["-c", String(script)], { encoding: "utf8" }).stdout).toBe(evil);
  const words = sshArgv({ command: ["ssh", "-F", "file"], host: "kn1", connect_s: 5 }, script);
  expect(words.slice(0, 2)).toEqual(["-F", "file"]);
  expect(words.at(-2)).toBe("kn1");
  expect(words.join(" ")).not.toContain("never");
  // Its last word reads the script from stdin, and nothing after it, in whichever shell.
  for (const shell of ["sh", "bash", "zsh", "fish"]) {
    if (spawnSync(shell, ["-c", "true"]).status !== 0) continue;
    const done = spawnSync(shell, ["-c", words.at(-1)!], {
      input: `${stdinOf(script)}; cat\nthe rest`,
      encoding: "utf8",
    });
    expect(done.stdout, shell).toBe(evil);
  }
});

test.each(Object.entries({ PROBE, START, LINK, HAND_ON, STOP }))(
  "%s is a script that every sh can read",
  (_, script) => {
    for (const shell of ["dash", "bash", "sh"])
      expect(spawnSync(shell, ["-n"], { input: script, encoding: "utf8" }).stderr, shell).toBe("");
  },
);

test("STOP ends what a killed agent left running, and nobody who has such a pid since", async () => {
  const dir = mkdtempSync(join(tmpdir(), "mt-stop-"));
  const groups = join(dir, "agents/t.kn1/groups");
  mkdirSync(groups, { recursive: true });
  const [left, later] = [0, 1].map(() => spawn("sleep", ["100"], { detached: true, stdio: "ignore" }));
  try {
    for (const child of [left, later]) writeFileSync(join(groups, String(child!.pid)), "");
    const before = Date.now() / 1000 - 60;
    utimesSync(join(groups, String(later!.pid)), before, before);
    const ended = new Promise((resolve) => left!.on("exit", (_, signal) => resolve(signal)));
    const script = String(withVariables({ host: "kn1", tree: "t", sha: "none", purge: "" }, STOP));
    const env = { ...process.env, MT_RUN: dir, HOME: dir };
    expect(spawnSync("sh", { input: script, env, encoding: "utf8" }).stdout).toBe("\n@mt end\n");
    expect(await ended).toBe("SIGKILL");
    expect(process.kill(later!.pid!, 0)).toBe(true);
    expect(existsSync(dir)).toBe(false);
  } finally {
    left!.kill("SIGKILL");
    later!.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
});

describe("fetching with one program and no other", () => {
  const body = Buffer.alloc(3_000_000, "MegaTux \r\n\0");
  const dir = mkdtempSync(join(tmpdir(), "mt-fetch-"));
  let server: Server;
  beforeAll(async () => {
    server = createServer((request, response) => {
      if (request.url !== "/once") response.writeHead(404).end("no");
      else response.writeHead(200, { "Content-Length": body.length }).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => {
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const where = (program: string) =>
    ["/usr/bin", "/bin"].map((d) => join(d, program)).find((path) => existsSync(path));

  for (const program of ["curl", "wget", "bash", "perl", "python3"])
    test.skipIf(!where(program))(program, async () => {
      const bin = mkdtempSync(join(dir, "bin-"));
      for (const name of [program, "cat", "sh"]) symlinkSync(where(name)!, join(bin, name));
      const { port } = server.address() as AddressInfo;
      const fetched = (path: string) => {
        const script = `${FETCH}fetch 127.0.0.1 ${port} ${path} 3>&1 >/dev/null 2>/dev/null`;
        const child = spawn("/bin/sh", ["-c", script], {
          env: { PATH: bin },
          stdio: ["ignore", "pipe", "inherit"],
        });
        const hash = createHash("sha256");
        child.stdout.on("data", (d) => hash.update(d));
        return new Promise((resolve) => child.on("close", () => resolve(hash.digest("hex"))));
      };
      const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
      expect(await fetched("once")).toBe(digest(body));
      expect(await fetched("twice")).not.toBe(digest(body));
    });

  test("with none of them it fails at once", () => {
    expect(() =>
      execFileSync("/bin/sh", ["-c", `${FETCH}fetch 127.0.0.1 1 x 3>&1 >/dev/null 2>/dev/null`], {
        env: { PATH: dir },
      }),
    ).toThrow();
  });
});
