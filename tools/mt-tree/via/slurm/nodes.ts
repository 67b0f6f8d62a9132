/** What Slurm tells about the allocation that we are in: its job, its nodes with addresses, cores and memory. */
import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../../shared/errors.ts";
import { runOk } from "../../../../shared/host/process.ts";
import type { TreeHost } from "../../node/tree-file.ts";

const SLURM_S = 60;

/** The id of the job whose allocation we are in. */
export function job(): Result<string, MtError> {
  const id = process.env.SLURM_JOB_ID;
  if (id && process.env.SLURM_JOB_NODELIST) return ok(id);
  return fail(
    "unavailable",
    "Cannot reach hosts by Slurm: this is not inside an allocation (SLURM_JOB_ID is not set)",
    "salloc -N4, then mt-tree up --via slurm in its shell, or in a script for sbatch",
  );
}

/** The nodes of our job, in its order; those without an address are in `failed`. */
export async function allocatedHosts(): Promise<
  Result<{ hosts: Map<string, TreeHost>; failed: Map<string, MtError> }, MtError>
> {
  const list = process.env.SLURM_JOB_NODELIST ?? "";
  const told = await runOk("scontrol", ["show", "hostnames", list], { timeout_s: SLURM_S });
  if (told.isErr()) return err(told.error);
  const shown = await runOk("scontrol", ["show", "node", list, "--oneliner"], { timeout_s: SLURM_S });
  if (shown.isErr()) return err(shown.error);
  const names = told.value.stdout.split("\n").filter(Boolean);
  const cores = perNode(process.env.SLURM_JOB_CPUS_PER_NODE ?? "");
  const nodes = new Map(nodeFields(shown.value.stdout).map((f) => [f.NodeName, f]));
  const hosts = new Map<string, TreeHost>();
  const failed = new Map<string, MtError>();
  await Promise.all(
    names.map(async (id, k) => {
      const fields = nodes.get(id) ?? {};
      const addr = await addressOf(fields.NodeAddr ?? id);
      if (addr === undefined)
        failed.set(
          id,
          mtError("unavailable", `Cannot reach ${id}: no address is known for ${fields.NodeAddr ?? id}`),
        );
      else {
        const own = cores[k] ?? (Number(fields.CPUTot) || 1);
        hosts.set(id, {
          id,
          addr,
          cores: own,
          mem_mib: memoryMib(process.env, own) ?? (Number(fields.RealMemory) || 1),
        });
      }
    }),
  );
  // In the job's order, not in that of the answers.
  return ok({ hosts: new Map(names.flatMap((n) => (hosts.has(n) ? [[n, hosts.get(n)!]] : []))), failed });
}

/** `2(x3),4` → 2, 2, 2, 4. */
export function perNode(text: string): number[] {
  return [...text.matchAll(/(\d+)(?:\(x(\d+)\))?/g)].flatMap(([, n, times]) =>
    Array<number>(Number(times ?? 1)).fill(Number(n)),
  );
}

/** How much of a node's memory the job asked for; undefined: all of it. */
export function memoryMib(env: NodeJS.ProcessEnv, cores: number): number | undefined {
  return Number(env.SLURM_MEM_PER_NODE) || Number(env.SLURM_MEM_PER_CPU) * cores || undefined;
}

/** The fields of `scontrol show node --oneliner`, by line. Values with blanks are cut; those that we read have none. */
export function nodeFields(text: string): Record<string, string>[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("NodeName="))
    .map((line) =>
      Object.fromEntries([...line.matchAll(/(?:^|\s)(\w+)=(\S*)/g)].map(([, k, v]) => [k!, v!])),
    );
}

async function addressOf(name: string): Promise<string | undefined> {
  if (isIP(name)) return name;
  return lookup(name).then(
    ({ address }) => address,
    () => undefined,
  );
}

/** Our own address on the route to another one; nothing is sent. */
export function addressTowards(addr: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIP(addr) === 6 ? "udp6" : "udp4");
    socket.once("error", reject);
    socket.connect(9, addr, () => {
      resolve(socket.address().address);
      socket.close();
    });
  });
}
