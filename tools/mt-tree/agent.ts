/** The hidden command `mt-tree agent`: a node of the tree as a process, from its configuration until it is ended. */
import { chmodSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import type { Invocation } from "../../shared/cli/start.ts";
import { collectWhenQuiet } from "../../shared/collect.ts";
import { EXIT } from "../../shared/errors.ts";
import { endLeftGroups, launcher } from "./command.ts";
import { type NodeConfig, TreeNode } from "./node.ts";
import { tlsTransport } from "./transport-tls.ts";
import { socketWire } from "./wire.ts";

export async function agent({ args, signal }: Invocation): Promise<number> {
  const path = String(args.config);
  const config = JSON.parse(readFileSync(path, "utf8")) as NodeConfig;
  const pidFile = path.replace(/\.json$/, ".pid");
  writeFileSync(pidFile, String(process.pid), { mode: 0o600 });
  const groups = join(dirname(path), "groups");
  endLeftGroups(groups);
  const ended = new Promise<void>((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
  const node = new TreeNode(config, tlsTransport(config.identity), launcher(groups));
  if (config.socket) await listenForClients(node, config.socket);
  // What starting took is not needed any more.
  collectWhenQuiet(true);
  await Promise.race([node.run(), ended]);
  node.stop();
  rmSync(pidFile, { force: true });
  return EXIT.ok;
}

async function listenForClients(node: TreeNode, path: string): Promise<void> {
  rmSync(path, { force: true });
  const server = createServer((socket) => node.client(socketWire(socket)));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
}
