/** The hidden command `mt-tree agent`: a node of the tree as a process, from its configuration until it is ended. */
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import type { Call } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT, type MtError, mtError } from "../../../shared/errors.ts";
import { listenOwn, readOwn, writeOwn } from "../../../shared/own-place.ts";
import { readStdin } from "../../../shared/stream/stdin.ts";
import { collectWhenQuiet } from "../link/garbage.ts";
import { SILENCE_MS } from "../link/link.ts";
import { tlsTransport } from "../link/tls.ts";
import { socketWire, type Transport } from "../link/wire.ts";
import { sshTransport, stdioTransport } from "../via/ssh/transport.ts";
import { endAsked, endLeftGroups, launcher, STOP_S } from "./command.ts";
import type { NodeConfig } from "./config.ts";
import { TreeNode } from "./node.ts";

/**
 * Beside the configuration file the agent writes its pid (`.pid`) and, once it takes children, `.ready`. Where the
 * configuration comes from stdin (`-`), no file is written.
 */
export async function agent({
  tool,
  args,
  signal,
}: Call & { args: { config: string; stdio: boolean } }): Promise<number> {
  const path = args.config;
  const file = path === "-" ? undefined : path;
  const config = JSON.parse(file ? readOwn(file) : String(await readStdin(signal))) as NodeConfig;
  const beside = (ending: string) => file?.replace(/\.json$/, ending);
  const note = (ending: string, text: string) => file && writeOwn(beside(ending)!, text);
  note(".pid", String(process.pid));
  const groups = file && join(dirname(file), "groups");
  let end: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  signal.addEventListener("abort", end, { once: true });
  const transport = transportOf(config, args.stdio, end);
  try {
    await runNode(config, transport, groups, ended, () => note(".ready", ""));
  } catch (thrown) {
    return complain(tool, cannotListen(config, thrown as NodeJS.ErrnoException));
  }
  for (const ending of file ? [".pid", ".ready"] : []) rmSync(beside(ending)!, { force: true });
  return EXIT.ok;
}

/**
 * Runs a node until it is ended, or no ancestor has let it in for long; all that it ran is ended then. Throws where it
 * cannot listen.
 * @param groups where the process groups of its commands are noted; those that an earlier agent left there are ended
 * @param listening called once it takes children
 */
export async function runNode(
  config: NodeConfig,
  transport: Transport,
  groups: string | undefined,
  ended: Promise<void>,
  listening: () => void,
): Promise<void> {
  if (groups) endLeftGroups(groups);
  const told: Transport = {
    ...transport,
    listen: async (self, accept) => {
      await transport.listen(self, accept);
      // Clients can connect to a head only once hosts can join it.
      if (config.socket) await listenForClients(node, config.socket);
      listening();
    },
  };
  const node: TreeNode = new TreeNode(config, told, launcher(groups));
  // Memory that only the start needed.
  collectWhenQuiet(true);
  await Promise.race([node.run(), ended]);
  node.stop();
  await endAsked(STOP_S);
}

/** Why a node cannot listen: its port is in use, its address is not on this host. Throws errors of other kinds. */
export function cannotListen({ self }: Pick<NodeConfig, "self">, e: NodeJS.ErrnoException): MtError {
  if (!e.code?.startsWith("E")) throw e;
  const where = e.path === undefined ? `${self.addr} port ${self.port}` : e.path;
  if (e.code === "EADDRINUSE")
    return mtError(
      "busy",
      `Cannot join host ${self.name}: somebody listens on ${where} already`,
      "another tree is on this host: give this one another --port",
    );
  return mtError("failed", `Cannot join host ${self.name}: it cannot listen on ${where}: ${e.message}`);
}

/** @param end called when the agent's only wire has ended, where it has only one */
function transportOf(config: NodeConfig, stdio: boolean, end: () => void): Transport {
  if (stdio) return stdioTransport(end);
  if (config.links) return sshTransport(config.links, config.self, config.silence_ms ?? SILENCE_MS);
  if (!config.identity) throw new Error("a configuration without an identity");
  return tlsTransport(config.identity);
}

async function listenForClients(node: TreeNode, path: string): Promise<void> {
  const server = createServer((socket) => node.client(socketWire(socket)));
  await listenOwn(server, path);
}
