/** `--via local`: hosts are network namespaces of this machine, agents are processes in them. */
import { dirname, join } from "node:path";
import type { Result } from "neverthrow";
import { type MtError, mtError } from "../../../../shared/errors.ts";
import { startTime } from "../../../../shared/host/lock.ts";
import {
  clusterNamespace,
  hostNamespace,
  localRunDir,
  localStateDir,
} from "../../../../shared/host/names.ts";
import { cleanEnv, toolCommand } from "../../../../shared/host/process.ts";
import { ownDir } from "../../../../shared/own-place.ts";
import { AGENT_ENVIRONMENT } from "../../node/agent-environment.ts";
import { endNode, isStuck, lastLogLine, nodeLog, nodePid, startNode } from "../../node/node-here.ts";
import type { PlannedAgent, Way, WayOptions } from "../way.ts";
import {
  HEAD_ADDR,
  hostEnvironment,
  lockHosts,
  makeHosts,
  mayMakeHosts,
  mendHosts,
  removeHosts,
  shareOut,
  wiredHosts,
} from "./hosts.ts";
import { mtusOf } from "./mtu.ts";

export function viaLocal({ mtu = [] }: WayOptions): Way {
  /** From --mtu of this run; hosts that are there and not named in it keep theirs. */
  let mtus: ReadonlyMap<string, number> = new Map();
  /** Agents that this run has started. */
  const pids = new Map<string, number>();
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
    mend: (tree, hosts) => mendHosts(tree.hosts, hosts),
    remains: () => wiredHosts(),
    async start(_tree, agents, _signal, replace) {
      const failed = new Map<string, MtError>();
      const running = new Set<string>();
      await Promise.all(
        agents.map(async (agent) => {
          const { id } = agent.host;
          const file = configOf(id);
          const pid = nodePid(file);
          if (pid !== undefined && !replace && !isStuck(pid, hostNamespace(id))) return running.add(id);
          if (pid !== undefined && !(await endNode(file)))
            return failed.set(
              id,
              mtError(
                "busy",
                `Cannot start the agent on ${id}: the one that is there does not end (pid ${pid})`,
              ),
            );
          const started = startAgent(agent);
          if (started.isErr()) failed.set(id, started.error);
          else pids.set(id, started.value);
        }),
      );
      return { failed, running };
    },
    stuck(host) {
      const pid = nodePid(configOf(host));
      return pid !== undefined && isStuck(pid, hostNamespace(host));
    },
    // Only the pid is compared: while nsenter becomes the agent its command line is empty.
    ended: (host) => pids.has(host) && startTime(pids.get(host)!) === undefined,
    async lastLogLines(_tree, hosts) {
      return new Map(
        hosts.flatMap((h) => {
          const line = lastLogLine(nodeLog(configOf(h)));
          return line === undefined ? [] : [[h, line] as const];
        }),
      );
    },
    remove: (tree) => removeHosts(tree.hosts),
    logOf: (host) => nodeLog(configOf(host)),
  };
}

const configOf = (host: string) => join(localRunDir(host), "tree", "agent.json");

function startAgent({ host, config }: PlannedAgent): Result<number, MtError> {
  ownDir(localStateDir(host.id));
  const [binary = ""] = toolCommand("mt-tree");
  return startNode(configOf(host.id), config, hostNamespace(host.id), {
    ...cleanEnv(hostEnvironment(host.id, binary.includes("/") ? dirname(binary) : undefined)),
    ...AGENT_ENVIRONMENT,
  });
}
