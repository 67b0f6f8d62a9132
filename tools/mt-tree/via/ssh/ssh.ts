/**
 * `--via ssh`: hosts are machines that the user's own ssh reaches without asking. Each is probed once for what it is and
 * has; then its agent is started there, in a session of its own. Where the binary is missing it is brought first: from
 * here to the first hosts of the tree, to all others from their parents. After that ssh is not needed any more.
 */
import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { inform, warn } from "../../../../shared/cli/stderr.ts";
import { fail, type MtError, mtError } from "../../../../shared/errors.ts";
import { treeDir } from "../../../../shared/host/names.ts";
import { limiter } from "../../../../shared/limiter.ts";
import { foldNodes } from "../../../../shared/nodeset/fold.ts";
import { lastLine, nodeLog, nodePid, readLog } from "../../node/node-here.ts";
import type { TreeFile } from "../../node/tree-file.ts";
import type { PlannedAgent, Way, WayOptions } from "../way.ts";
import { type Binary, findBinary, KNOWN_RELEASE, packed, RELEASE } from "./binary.ts";
import { bootstrapError, HAND_ON, LAST_LOG_LINE, PROBE, START, STOP } from "./bootstrap.ts";
import { leaveTree } from "./leave.ts";
import { Parents } from "./parents.ts";
import { CONNECT_S, runBySsh, type SshCall, sshCommand, withVariables } from "./run.ts";

/** How many ssh connections there are at once. */
const AT_ONCE = 32;
/** To how many hosts the binary is sent from here at once. */
const STREAMS_AT_ONCE = 8;
/** Seconds for the answer of a host, once it is connected. */
const ANSWER_S = 10;
/** Seconds for sending the binary to a host. */
const BRING_S = 300;
/** How much of a host's memory is for guests. */
const MEMORY_SHARE = 0.9;

/** What the probe of a host found. */
interface Found {
  addr: string;
  /** Our address, as the host sees it. */
  head: string;
  system: string;
  machine: string;
  cores: number;
  mem_mib: number;
  /** Whether it has mt-tree of our release. */
  has: boolean;
}

const MACHINES: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64" };
const IPV4 = /^\d+\.\d+\.\d+\.\d+$/;
const isLoopback = (addr: string) => addr.startsWith("127.");

/** Identifies the tree by its authority, so that files and agents of another tree on the same host are left alone. */
const treeMark = (tree: TreeFile) =>
  createHash("sha256").update(tree.authority.cert).digest("hex").slice(0, 12);

export function viaSsh(options: WayOptions): Way {
  const command = sshCommand(options.ssh);
  const connect_s = Math.min(CONNECT_S, options.timeout_s ?? CONNECT_S);
  const answer_s = Math.min(ANSWER_S, options.timeout_s ?? ANSWER_S);
  const call = (host: string, signal?: AbortSignal): SshCall => ({ command, host, connect_s, signal });
  const turn = limiter(AT_ONCE);
  const streamTurn = limiter(STREAMS_AT_ONCE);
  /** Whether hosts that were probed in this run have the binary. */
  const has = new Map<string, boolean>();
  /** By host, the directory of its agent. */
  const dirs = new Map<string, string>();
  let binary: Binary | undefined;
  /** Hosts whose agents were ended through the tree. */
  let left = new Set<string>();

  /** The variables of every script. */
  const variables = (host: string | undefined, mark: string, b: Binary | undefined) => ({
    ...(host === undefined ? {} : { host }),
    tree: mark,
    name: b?.name ?? "mt",
    digest: b?.sha256 ?? "",
    sha: b?.sha256.slice(0, 16) ?? "none",
    size: b?.size ?? 0,
    line: RELEASE,
    version: KNOWN_RELEASE ? RELEASE : "",
  });

  async function theBinary(): Promise<Result<Binary, MtError>> {
    if (binary) return ok(binary);
    const found = await findBinary();
    if (found.isOk()) binary = found.value;
    return found;
  }

  async function probe(host: string, b: Binary): Promise<Result<Found, MtError>> {
    const said = await runBySsh(call(host), withVariables(variables(host, "none", b), PROBE), {
      timeout_s: connect_s + answer_s,
    });
    if (said.isErr()) return err(said.error);
    const answers = new Map(said.value.map((line) => [line.split(" ")[0]!, line.split(" ").slice(1)]));
    const [head = "", addr = ""] = answers.get("connection") ?? [];
    const [system = "?", machine = "?"] = answers.get("system") ?? [];
    if (!IPV4.test(addr) || !IPV4.test(head))
      return fail(
        "unavailable",
        `Cannot use host ${host}: ssh reaches it at ${addr || "an address that it does not tell"}, and agents need IPv4`,
        "give it an IPv4 HostName in ~/.ssh/config",
      );
    const found = {
      addr,
      head,
      system,
      machine,
      cores: Number(answers.get("cores")?.[0]) || 1,
      mem_mib: Math.max(1, Math.floor(((Number(answers.get("memory_kib")?.[0]) || 0) / 1024) * MEMORY_SHARE)),
      has: answers.get("binary")?.[0] !== "none",
    };
    const ours = MACHINES[process.arch] ?? process.arch;
    if (!found.has && (system !== "Linux" || machine !== ours))
      return fail(
        "unavailable",
        `Cannot bring mt to ${host}: this mt is ${ours === machine ? "Linux" : ours}, ${host} is ${ours === machine ? system : machine}`,
        `build this release there, and put mt on the PATH of its ssh`,
      );
    return ok(found);
  }

  /** Starts one agent; brings the binary first where it is missing, from a host above it or from here. Gives what failed. */
  async function start(
    { host, config }: PlannedAgent,
    tree: TreeFile,
    parents: Parents,
    signal: AbortSignal,
    replace: boolean,
  ): Promise<MtError | "running" | undefined> {
    // Links inside ssh start the agent themselves.
    if (options.no_port && has.get(host.id)) return undefined;
    const b = await theBinary();
    if (b.isErr()) return b.error;
    const known = variables(host.id, treeMark(tree), b.value);
    const once = async (mode: "have" | "fetch" | "stream", from = { addr: "", port: 0, path: "" }) => {
      const script = withVariables(
        {
          ...known,
          mode,
          from_addr: from.addr,
          from_port: from.port,
          from_path: from.path,
          upgrade: options.upgrade ? 1 : "",
          replace: replace ? 1 : "",
          no_port: options.no_port ? 1 : "",
        },
        START,
      );
      const input: (string | Uint8Array)[] = [`${JSON.stringify(config)}\n`];
      if (mode === "stream") input.push(await parents.packed());
      return runBySsh(call(host.id, signal), script, {
        input,
        timeout_s: connect_s + (mode === "have" ? ANSWER_S + 20 : BRING_S),
        onLine: (line) => {
          if (line.startsWith("binary ")) parents.has(host.id, true);
          if (line.startsWith("dir ")) dirs.set(host.id, line.slice(4));
        },
      });
    };
    // Whether a host of an earlier run has the binary is not known: starting the agent without it tells.
    let said = has.get(host.id) === false ? undefined : await turn(() => once("have"));
    const needs = () => !said || (said.isOk() && said.value.includes("need"));
    if (needs() && !options.no_port) {
      const from = await parents.offer(host.id);
      if (from) {
        said = await turn(() => once("fetch", from));
        parents.count(!needs());
      }
    }
    if (needs()) said = await streamTurn(() => turn(() => once("stream")));
    if (said!.isErr()) return said!.error;
    const failed = said!.value.find((line) => line.startsWith("failed "));
    if (failed !== undefined) return bootstrapError(host.id, failed.slice(7), config.self.port);
    return said!.value.includes("running") ? "running" : undefined;
  }

  return {
    headNamespace: undefined,

    links(tree) {
      if (!options.no_port) return undefined;
      return { command, connect_s, variables: variables(undefined, treeMark(tree), binary) };
    },

    async hosts(names, earlier) {
      const known = earlier?.hosts ?? [];
      const ids = new Set(known.map((h) => h.id));
      const fresh = names.filter((n) => !ids.has(n));
      const failed = new Map<string, MtError>();
      if (earlier && fresh.length === 0)
        return ok({ hosts: known, head: earlier.head.addr, listen: earlier.head.listen });
      const b = await theBinary();
      if (b.isErr()) return err(b.error);
      if (b.value.name === "mt-tree")
        inform("no mt of this release is beside mt-tree: hosts get mt-tree alone, other tools must be there");
      const found = new Map<string, Found>();
      const asked = await Promise.all(fresh.map((host) => turn(() => probe(host, b.value))));
      for (const [k, answer] of asked.entries())
        if (answer.isOk()) found.set(fresh[k]!, answer.value);
        else failed.set(fresh[k]!, answer.error);

      const head = options.head ?? earlier?.head.addr ?? headAddress([...found.values()]);
      const hosts = [...known];
      const at = new Map(known.map((h) => [h.addr, h.id]));
      for (const id of fresh) {
        const f = found.get(id);
        if (!f) continue;
        // This machine, reached at a loopback address: other hosts reach it where they reach the head.
        const addr = isLoopback(f.addr) && !isLoopback(head) ? head : f.addr;
        if (!options.no_port && isLoopback(head) && !isLoopback(addr)) {
          const message = `Cannot use host ${id}: the head of this tree is at ${head}, where no other machine finds it`;
          failed.set(id, mtError("usage", message, "mt-tree down, then up with all hosts, or with --head"));
          continue;
        }
        const other = at.get(addr);
        if (other !== undefined) {
          failed.set(
            id,
            mtError(
              "usage",
              `Cannot use host ${id}: it is host ${other} by another name (${addr})`,
              "name it once",
            ),
          );
          continue;
        }
        at.set(addr, id);
        has.set(id, f.has);
        hosts.push({ id, addr, cores: f.cores, mem_mib: f.mem_mib });
      }
      // The address at which hosts reach the head may belong to a NAT or a proxy, not to this machine.
      const own = Object.values(networkInterfaces()).some((list) => list?.some((i) => i.address === head));
      return ok({ hosts, head, listen: own ? undefined : "0.0.0.0", failed });
    },

    async may(tree) {
      const b = await theBinary();
      if (b.isErr()) return err(b.error);
      if (options.no_port || nodePid(join(treeDir(), "head.json")) !== undefined) return ok(undefined);
      return mayListen(tree.head.listen ?? tree.head.addr, tree.port);
    },

    make: async () => ok(undefined),

    async start(tree, agents, signal, replace) {
      const failed = new Map<string, MtError>();
      const running = new Set<string>();
      const b = await theBinary();
      if (b.isErr()) return { failed: new Map(agents.map((a) => [a.host.id, b.error])), running };
      const parents = new Parents(
        tree,
        agents.map((a) => a.host.id),
        {
          packed: () => packed(b.value.path),
          serve: (host, onLine, onStdin) =>
            runBySsh(
              call(host.id, signal),
              withVariables(variables(host.id, treeMark(tree), b.value), HAND_ON),
              { onLine, onStdin, timeout_s: 3 * BRING_S },
            ),
        },
      );
      await Promise.all(
        agents.map(async (agent) => {
          const came = await start(agent, tree, parents, signal, replace);
          parents.has(agent.host.id, came === undefined || came === "running");
          if (came === "running") running.add(agent.host.id);
          else if (came) failed.set(agent.host.id, came);
        }),
      );
      await parents.end();
      if (options.progress) parents.tell();
      return { failed, running };
    },

    async lastLogLines(tree, hosts) {
      const last = new Map<string, string>();
      // Where links stay inside ssh the head makes them, and its log has what went wrong with them.
      const own = options.no_port ? readLog(nodeLog(join(treeDir(), "head.json"))) : "";
      await Promise.all(
        hosts.map((host) =>
          turn(async () => {
            const about = own.split("\n").findLast((line) => line.includes(` ${host}: `));
            if (about !== undefined) return last.set(host, lastLine(about)!);
            const script = withVariables(variables(host, treeMark(tree), undefined), LAST_LOG_LINE);
            const said = await runBySsh(call(host), script, { timeout_s: connect_s + answer_s });
            const line = said.unwrapOr([]).find((l) => l.startsWith("log "));
            if (line) last.set(host, lastLine(line.slice(4)) ?? "");
          }),
        ),
      );
      return last;
    },

    async leave() {
      left = await leaveTree();
    },

    async remove(tree) {
      const mark = treeMark(tree);
      const unreached: string[] = [];
      const hosts = tree.hosts.filter((h) => options.purge || !left.has(h.id));
      await Promise.all(
        hosts.map((host) =>
          turn(async () => {
            const script = withVariables(
              { ...variables(host.id, mark, undefined), purge: options.purge ? 1 : "" },
              STOP,
            );
            const said = await runBySsh(call(host.id), script, { timeout_s: connect_s + ANSWER_S + 10 });
            const refused = said.isOk() ? said.value.find((line) => line.startsWith("failed ")) : undefined;
            if (said.isOk() && refused === undefined) return;
            unreached.push(host.id);
            if (said.isErr()) warn(said.error);
            else warn(mtError("failed", `Cannot end the agent on ${host.id}: ${refused}`));
          }),
        ),
      );
      if (unreached.length === 0) return ok(undefined);
      return fail(
        "lost",
        `Cannot end the agents on ${foldNodes(unreached)}: they could not be reached`,
        "an agent that finds no head ends by itself within a minute; its files stay in MT_RUN/agents there",
      );
    },

    logOf: (host) => `${dirs.get(host) ?? "MT_RUN/agents"}/node.log on ${host}`,
  };
}

/** Our address as most hosts see it; a loopback address only where there is no other. */
function headAddress(found: readonly Found[]): string {
  const votes = new Map<string, number>();
  for (const { head } of found) votes.set(head, (votes.get(head) ?? 0) + (isLoopback(head) ? 0 : 1));
  return [...votes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "127.0.0.1";
}

/** Whether the head can listen there. The head itself would end at once, and say why only in its log. */
function mayListen(addr: string, port: number): Promise<Result<void, MtError>> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (e: NodeJS.ErrnoException) =>
      resolve(
        e.code === "EADDRINUSE"
          ? fail(
              "busy",
              `Cannot bring up the tree: port ${port} of this machine is in use`,
              "another tree is up here? mt-tree down ends it, with its MT_RUN; or take another with --port",
            )
          : fail("failed", `Cannot bring up the tree: its head cannot listen on ${addr}: ${e.message}`),
      ),
    );
    server.listen(port, addr, () => server.close(() => resolve(ok(undefined))));
  });
}
