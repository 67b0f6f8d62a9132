/**
 * HTTP over Unix sockets, as the supervisor is asked: JSON in, JSON lines out.
 * Bun's own `undici` is a stub that ignores socket paths; the real one stands under `undici/index.js`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { ok, type Result } from "neverthrow";
import { fail, type MtError, mtError, toMtError } from "../../shared/errors.ts";
import { listenOwn, ownSocket } from "../../shared/own-place.ts";
import { linesFrom } from "../../shared/stream/lines.ts";

/** Answers one request by `send`, a line a call. What it throws becomes an `error` line. */
export type Handler = (body: unknown, send: (line: unknown) => void, signal: AbortSignal) => Promise<void>;

/** Listens on a Unix socket of ours, with a handler for each path `/name`. A dead process's socket is replaced. */
export async function serveUnix(path: string, handlers: Readonly<Record<string, Handler>>): Promise<Server> {
  const server = createServer((request, response) => {
    void answer(request, response, handlers);
  });
  server.timeout = 0;
  server.requestTimeout = 0;
  server.keepAliveTimeout = 1000;
  await listenOwn(server, path);
  return server;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  handlers: Readonly<Record<string, Handler>>,
): Promise<void> {
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const send = (line: unknown) => void response.write(`${JSON.stringify(line)}\n`);
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const handler = handlers[(request.url ?? "").slice(1)];
    response.writeHead(handler ? 200 : 404, { "content-type": "application/x-ndjson" });
    if (handler) await handler(text === "" ? undefined : JSON.parse(text), send, gone.signal);
    else send({ error: mtError("usage", `Cannot answer ${request.url}: no such request`) });
  } catch (thrown) {
    send({ error: toMtError(thrown) });
  }
  response.end();
}

/** Asks a Unix socket; `each` gets every line as it comes. Errors: unavailable where nobody listens. @throws where the socket is not ours */
export async function askUnix(
  path: string,
  name: string,
  body: unknown,
  each: (line: never) => void,
  options: { timeout_s?: number; signal?: AbortSignal } = {},
): Promise<Result<void, MtError>> {
  const socket = ownSocket(path);
  const { Client } = (await import("undici/index.js" as string)) as typeof import("undici");
  const limit = (options.timeout_s ?? 60) * 1000;
  const client = new Client("http://localhost", {
    socketPath: socket.path,
    headersTimeout: limit,
    bodyTimeout: limit,
  });
  try {
    const response = await client.request({
      path: `/${name}`,
      method: "POST",
      body: JSON.stringify(body ?? null),
      signal: options.signal,
    });
    let failure: MtError | undefined;
    for await (const { text } of linesFrom(response.body)) {
      if (text === "") continue;
      const line = JSON.parse(text) as { error?: MtError; kind?: string };
      if (line.error && line.kind === undefined) failure = line.error;
      else each(line as never);
    }
    return failure ? fail(failure.code, failure.message, failure.hint) : ok(undefined);
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code ?? "";
    if (code === "ECONNREFUSED" || code === "ENOENT")
      return fail("unavailable", `Cannot reach ${path}: nobody listens there`);
    if (/TIMEOUT/.test(code))
      return fail("timeout", `Cannot hear from ${path}: no answer to ${name} in ${limit / 1000} s`);
    if (options.signal?.aborted) return fail("failed", `Cannot ask ${name}: interrupted`);
    return fail("lost", `Cannot hear from ${path}: ${(thrown as Error).message}`);
  } finally {
    await client.destroy().catch(() => {});
    socket.close();
  }
}
