/**
 * The hidden command `mt-tree hand-on`: serves this binary, packed, by plain HTTP to hosts below this one in the tree.
 * The binary is no secret, and hosts that fetch it check its digest. Each line of stdin is a path, which may be fetched
 * once. Prints its port, and each path as it is offered; ends when stdin does.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import type { Call } from "../../../../shared/cli/invocation.ts";
import { EXIT } from "../../../../shared/errors.ts";
import { writeAll } from "../../../../shared/stream/writer.ts";
import { markedLine } from "../marker.ts";
import { packed } from "./binary.ts";

/** It ends after this time, even while stdin is open. */
const LIFE_S = 900;

export async function handOn({ args, signal }: Call & { args: { addr: string } }): Promise<number> {
  const say = (text: string) => writeAll(1, markedLine(text));
  const paths = new Set<string>();
  const bytes = packed(process.execPath);
  const server = createServer(async (request, response) => {
    if (!paths.delete(request.url?.slice(1) ?? "")) return response.writeHead(404).end();
    const body = await bytes;
    response.writeHead(200, { "Content-Length": body.length, Connection: "close" }).end(body);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, args.addr, resolve);
  });
  say(`port ${(server.address() as AddressInfo).port}`);
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (path) => {
    paths.add(path);
    say(`offered ${path}`);
  });
  await new Promise<void>((resolve) => {
    const life = setTimeout(resolve, LIFE_S * 1000);
    lines.once("close", () => {
      clearTimeout(life);
      resolve();
    });
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  server.closeAllConnections();
  server.close();
  say("end");
  return EXIT.ok;
}
