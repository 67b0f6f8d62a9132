/** HTTP over a Unix socket, each way between Bun and Node: Bun's own undici is a stub that ignores socket paths. */
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { MtFailure, mtError } from "../../../shared/errors.ts";
import { askUnix, type Handler, serveUnix } from "../../../tools/mt-boot/http.ts";
import { bunScript, tempDir } from "../shared/fixtures.ts";

const handlers: Record<string, Handler> = {
  echo: async (body, send) => {
    send({ kind: "x", body });
    send({ kind: "x", text: "ä\u{1f680}\n" });
  },
  many: async (_body, send) => {
    for (let i = 0; i < 5000; i++) send({ kind: "x", i });
  },
  busy: async () => {
    throw new MtFailure(mtError("busy", "Cannot x: y", "later"));
  },
  hangs: async (_body, _send, signal) => {
    await new Promise((done) => signal.addEventListener("abort", done));
    aborted?.();
  },
};
let aborted: (() => void) | undefined;

async function serve(): Promise<string> {
  const path = join(tempDir(), "s.sock");
  const server = await serveUnix(path, handlers);
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return path;
}
async function ask(path: string, name: string, body?: unknown, options = {}) {
  const lines: unknown[] = [];
  const result = await askUnix(path, name, body, (line) => void lines.push(line), options);
  return { lines, error: result.isErr() ? result.error : undefined };
}

describe("in Node", () => {
  test("lines come back as they were sent; the socket is ours alone", async () => {
    const path = await serve();
    expect(await ask(path, "echo", { a: ["ü"] })).toEqual({
      lines: [
        { kind: "x", body: { a: ["ü"] } },
        { kind: "x", text: "ä\u{1f680}\n" },
      ],
      error: undefined,
    });
    expect((await ask(path, "many")).lines).toHaveLength(5000);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("an error of the other side arrives as it was thrown", async () => {
    expect((await ask(await serve(), "busy")).error).toEqual({
      code: "busy",
      message: "Cannot x: y",
      hint: "later",
    });
  });

  test("a request that nobody answers is said so", async () => {
    expect((await ask(await serve(), "nope")).error).toMatchObject({ code: "usage" });
  });

  test("nobody there is unavailable, with and without a stale socket file", async () => {
    const dir = tempDir();
    expect((await ask(join(dir, "none.sock"), "echo")).error).toMatchObject({ code: "unavailable" });
    const script = bunScript(
      `import { serveUnix } from "tools/mt-boot/http.ts"; await serveUnix(process.argv[2]!, {}); console.log("up");`,
      [join(dir, "stale.sock")],
    );
    await script.printed("up");
    script.child.kill("SIGKILL");
    await script.ended;
    expect((await ask(join(dir, "stale.sock"), "echo")).error).toMatchObject({ code: "unavailable" });
    const server = await serveUnix(join(dir, "stale.sock"), handlers);
    expect((await ask(join(dir, "stale.sock"), "echo")).error).toBeUndefined();
    server.closeAllConnections();
    server.close();
  });

  test("no answer in time is a timeout; giving up aborts the other side", async () => {
    const path = await serve();
    expect((await ask(path, "hangs", undefined, { timeout_s: 1 })).error).toMatchObject({ code: "timeout" });
    const gone = new Promise<void>((done) => {
      aborted = done;
    });
    const abort = new AbortController();
    const asking = ask(path, "hangs", undefined, { signal: abort.signal });
    setTimeout(() => abort.abort(), 50);
    expect((await asking).error).toMatchObject({ code: "failed", message: "Cannot ask hangs: interrupted" });
    await gone;
  });

  test("a socket that speaks no HTTP is lost, not a crash", async () => {
    const { createServer } = await import("node:net");
    const path = join(tempDir(), "s.sock");
    const server = createServer((c) => c.end("hello\n")).listen(path);
    onTestFinished(() => void server.close());
    expect((await ask(path, "echo")).error).toMatchObject({ code: "lost" });
  });
});

describe("across runtimes", () => {
  test("Bun asks Node", async () => {
    const path = await serve();
    const ended = await bunScript(
      `import { askUnix } from "tools/mt-boot/http.ts";
       let n = 0;
       const a = await askUnix(process.argv[2]!, "many", null, () => void n++);
       const b = await askUnix(process.argv[2]!, "busy", null, () => {});
       console.log(JSON.stringify([a.isOk(), n, b.isErr() && b.error.code]));`,
      [path],
    ).ended;
    expect(ended).toMatchObject({ stdout: '[true,5000,"busy"]\n', code: 0 });
  });

  test("Node asks Bun", async () => {
    const path = join(tempDir(), "s.sock");
    writeFileSync(path, "stale");
    const script = bunScript(
      `import { serveUnix } from "tools/mt-boot/http.ts";
       await serveUnix(process.argv[2]!, { many: async (_b, send) => { for (let i = 0; i < 5000; i++) send({ kind: "x", i }); } });
       console.log("up");`,
      [path],
    );
    await script.printed("up");
    const { lines, error } = await ask(path, "many");
    expect([lines.length, error]).toEqual([5000, undefined]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });
});
