/** `--via local`: hosts are network namespaces of this machine, agents are processes in them. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { ok, type Result } from "neverthrow";
import type { MtError } from "../../shared/errors.ts";
import { clusterNamespace, hostNamespace, localRunDir, localStateDir } from "../../shared/names.ts";
import { ownDir, readOwn, writeOwn } from "../../shared/own-place.ts";
import { cleanEnv, isAlive, startDaemon, toolCommand } from "../../shared/process.ts";
import { AGENT_ENVIRONMENT } from "./agent-environment.ts";
import {
  HEAD_ADDR,
  hostEnvironment,
  lockHosts,
  makeHosts,
  mayMakeHosts,
  removeHosts,
  shareOut,
} from "./local-hosts.ts";
import { mtusOf } from "./local-mtu.ts";
import type { NodeConfig } from "./node.ts";
import type { AgentStart, Way, WayOptions } from "./via.ts";

export function viaLocal({ mtu = [] }: WayOptions): Way {
  /** What this run asks for; what stands already keeps its own. */
  let mtus: ReadonlyMap<string, number> = new Map();
  return {
    async hosts(names, earlier) {
      const hosts = shareOut(names, earlier?.hosts ?? []);
      if (hosts.isErr()) return hosts.map((all) => ({ hosts: all, head: HEAD_ADDR }));
      const asked = mtusOf(
        mtu,
        hosts.value.map((h) => h.id),
      );
      return asked.map((all) => {
        mtus = all;
        const wired = hosts.value.map((h) => {
          const its = all.get(h.id) ?? h.mtu;
          return its === undefined ? h : { ...h, mtu: its };
        });
        return { hosts: wired, head: HEAD_ADDR };
      });
    },
    lock: lockHosts,
    may: (tree, earlier) => mayMakeHosts(tree.hosts, earlier?.hosts ?? []),
    make: (tree) => makeHosts(tree.hosts, mtus),
    get headNamespace() {
      return clusterNamespace();
    },
    async start(_tree, agents) {
      const failed = new Map<string, MtError>();
      for (const agent of agents) {
        const started = startAgent(agent);
        if (started.isErr()) failed.set(agent.host.id, started.error);
      }
      return failed;
    },
    remove: (tree) => removeHosts(tree.hosts),
    logOf: (host) => join(localRunDir(host), "tree", "node.log"),
  };
}

function startAgent({ host, config }: AgentStart): Result<void, MtError> {
  const file = join(localRunDir(host.id), "tree", "agent.json");
  if (nodeRuns(file)) return ok(undefined);
  ownDir(localStateDir(host.id));
  const [binary = ""] = toolCommand("mt-tree");
  return startNode(file, config, hostNamespace(host.id), {
    ...cleanEnv(hostEnvironment(host.id, binary.includes("/") ? dirname(binary) : undefined)),
    ...AGENT_ENVIRONMENT,
  });
}

/** Whether the node of this configuration file runs on this machine. */
export function nodeRuns(config: string): boolean {
  const pidFile = config.replace(/\.json$/, ".pid");
  const pid = existsSync(pidFile) ? Number(readOwn(pidFile)) : 0;
  return pid > 0 && isAlive(pid, config);
}

/** Starts a node of the tree on this machine; it outlives us. */
export function startNode(
  file: string,
  config: NodeConfig,
  netns: string | undefined,
  env: NodeJS.ProcessEnv,
): Result<void, MtError> {
  writeOwn(file, JSON.stringify(config));
  const [program = "", ...words] = toolCommand("mt-tree");
  return startDaemon(program, [...words, "agent", "--config", file], {
    log: join(dirname(file), "node.log"),
    netns,
    env,
  }).map(() => undefined);
}
