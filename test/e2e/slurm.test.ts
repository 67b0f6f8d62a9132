/**
 * Under other programs that start ours, all real: `mt-tree up --via slurm` in allocations of Debian's Slurm (munge,
 * slurmctld, four slurmd), and our tools without a tree, straight under srun, clush and GNU parallel.
 */
import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Rec, records, until } from "./lab.ts";
import { Testbed } from "./testbed.ts";

const N = 4;
const NAME = "mttes";
const hosts = Array.from({ length: N }, (_, k) => `${NAME}${k + 1}`);
const byId = (a: Rec, b: Rec) => (a.id < b.id ? -1 : 1);
const sorted = (text: string) => records(text).sort(byId);

let bed: Testbed;
beforeAll(() => {
  bed = new Testbed(NAME, N, ["--slurm"]);
});
afterAll(() => bed?.down());

/** The agents of all hosts, and what they ran, are gone. */
const noAgents = () => hosts.every((_, k) => bed.processes(k + 1).length === 0);

describe("mt-tree up --via slurm", () => {
  test("the nodes are Slurm's; exec and map reach them beside the job's own steps; down ends it all", () => {
    const done = bed.allocated(
      N,
      `mt-tree up --via slurm >/root/hosts && cat /root/hosts || exit
      mt-tree exec '${NAME}[1-${N}]' -- sh -c 'hostname; echo $MT_HOST $SLURM_JOB_ID' >/root/exec || exit
      srun -N${N} hostname | sort >/root/srun
      seq 8 | while read i; do
        echo '{"kind":"guest","id":"g'$i'","host":"${NAME}'$((i % ${N} + 1))'","index":1,"image":"t","cores":1,"mem_mib":1,"interfaces":[]}'
      done | { cat; echo '{"kind":"end","id":"x","counts":{"guest":8}}'; } | mt-tree map -- sed "s/planned/ready/" >/root/map || exit
      squeue --steps -h -o %j >/root/steps
      mt-tree down && squeue --steps -h -o %j`,
    );
    expect(done.stderr).toBe("");
    expect(done.code).toBe(0);
    expect(sorted(done.stdout)).toEqual(
      hosts.map((id, k) => ({
        ...{ kind: "host", id, addr: `10.77.0.${k + 2}`, cores: 2, mem_mib: 1000, mtu: 1500, state: "up" },
      })),
    );
    const said = sorted(bed.on(0, "cat /root/exec").stdout);
    expect(said).toMatchObject(hosts.map((id) => ({ id, code: 0 })));
    for (const { id, stdout } of said) expect(stdout).toMatch(new RegExp(`^${id}\n${id} \\d+\n$`));
    expect(bed.on(0, "cat /root/srun").stdout).toBe(hosts.map((h) => `${h}\n`).join(""));
    expect(records(bed.on(0, "cat /root/map").stdout)).toHaveLength(9);
    expect(bed.on(0, "cat /root/steps").stdout).toMatch(/^mt-tree-[0-9a-f]{8}\n$/);
    expect(noAgents()).toBe(true);
    for (const k of [0, 1, 2, 3, 4]) expect(bed.on(k, "ls /run/megatux").code).not.toBe(0);
  });

  test("an ordinary user has a tree too", () => {
    // From where this user can read it, wherever the repository is.
    const tool = `/tmp/testbed-${NAME}/mt-tree`;
    const done = bed.on(
      0,
      `cp $(type -P mt-tree) ${tool}
      setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR MT_RUN=/tmp/testbed-${NAME}-run \
        salloc -Q -N2 bash -c "${tool} up --via slurm >/dev/null && ${tool} exec '${NAME}[1-2]' -- id -u; ${tool} down"
      rm -r /tmp/run-65534 2>/dev/null; true`,
    );
    expect(done.stderr).toBe("");
    expect(sorted(done.stdout)).toMatchObject([{ stdout: "65534\n" }, { stdout: "65534\n" }]);
    expect(noAgents()).toBe(true);
  });

  test("the job's end ends the agents and what they run", async () => {
    const job = bed.start(
      `exec salloc -Q -N${N} bash -c 'mt-tree up --via slurm >/dev/null && echo $SLURM_JOB_ID >/root/job && mt-tree exec "${NAME}[1-${N}]" -- sleep 1000'`,
    );
    await until("the command on all hosts", () =>
      hosts.every((_, k) => bed.processes(k + 1).includes("sleep 1000")),
    );
    expect(bed.on(0, "scancel $(cat /root/job)").code).toBe(0);
    await until("the end of the agents", noAgents, 10);
    await job.done;
    // Its tree is still known here, and does not use another job's hosts.
    const other = bed.allocated(1, "mt-tree up --via slurm");
    expect(other.code).toBe(75);
    expect(other.stderr).toMatch(
      /the one that is here is of job \d+, and this is job \d+\n {2}hint: mt-tree down/,
    );
    expect(bed.on(0, "mt-tree down").code).toBe(0);
  });

  test("an agent that dies takes nobody with it, srun's end ends them, and up brings back who is missing", () => {
    const done = bed.allocated(
      N,
      `mt-tree up --via slurm >/dev/null || exit
      mt-tree exec ${NAME}2 -- sh -c 'kill -9 $PPID' >/dev/null
      mt-tree exec '${NAME}[1,3-4]' -- true >/dev/null && mt-tree up | grep -c '"state":"up"'
      kill -9 $(cat /run/megatux/tree/slurm/*.pid)
      for i in $(seq 100); do mt-tree status | grep -q '"state":"up"' || break; sleep 0.1; done
      mt-tree up | grep -c '"state":"up"'
      mt-tree exec '${NAME}[1-${N}]' -- hostname | grep -c '"code":0'
      mt-tree down`,
    );
    expect(done).toEqual({ code: 0, stdout: "4\n4\n4\n", stderr: "" });
    expect(noAgents()).toBe(true);
  });

  test("a node that lacks the tool, or has another machine's, is named at once; the others go on", () => {
    for (const k of [0, 1, 2, 3]) bed.on(k, "cp $(type -P mt-tree) /root/mt-tree");
    bed.on(3, "printf '\\177ELF nothing' >/root/mt-tree");
    const done = bed.allocated(N, "/root/mt-tree up --via slurm; /root/mt-tree down");
    const failed = (message: RegExp) => ({
      state: "failed",
      error: { by: "mt-tree", code: "unavailable", message: expect.stringMatching(message) },
    });
    expect(sorted(done.stdout)).toMatchObject([
      { state: "up" },
      { state: "up" },
      failed(/Cannot start the agent of mttes3: \/root\/mt-tree does not run/),
      failed(/Cannot start the agent of mttes4: \/root\/mt-tree is not there/),
    ]);
  });

  test("a node that Slurm does not reach is named, and keeps nobody else from being up; status has it missing", () => {
    const files = `/tmp/testbed-${NAME}/slurm`;
    bed.on(2, `kill $(cat ${files}/${NAME}2.pid); while [ -e ${files}/${NAME}2.pid ]; do sleep 0.1; done`);
    const done = bed.allocated(N, "mt-tree up --via slurm; mt-tree status; mt-tree down");
    bed.on(2, `slurmd -N ${NAME}2`);
    const found = records(done.stdout);
    const states = (list: Rec[]) => list.sort(byId).map((r) => r.state);
    expect(states(found.slice(0, N))).toEqual(["up", "failed", "up", "up"]);
    expect(found.find((r) => r.id === `${NAME}2`)).toMatchObject({
      error: { code: "lost", message: expect.stringMatching(/Slurm does not reach it/) },
    });
    expect(states(found.slice(N))).toEqual(["up", "failed", "up", "up"]);
  });

  /** Runs a shell line as a batch script to its end; gives what it printed. */
  const batch = (nodes: number, line: string) => {
    const out = `/tmp/testbed-${NAME}/batch`;
    return bed.on(
      0,
      `sbatch -Q -N${nodes} -o ${out} --wrap "${line}"; for i in $(seq 600); do [ "$(squeue -h)" ] || break; sleep 0.1; done; cat ${out}`,
    );
  };

  test("in a batch script the head runs on a node that has an agent too; HOSTS are checked", () => {
    const done = batch(
      2,
      `mt-tree up '${NAME}[2,9],\${SLURMD_NODENAME:-${NAME}1}' --via slurm; mt-tree exec '${NAME}[1-2]' -- hostname; mt-tree down`,
    );
    expect(done.stderr).toBe("");
    const all = records(done.stdout);
    expect(all.filter((r) => r.kind === "host").sort(byId)).toMatchObject([
      { id: `${NAME}1`, state: "up" },
      { id: `${NAME}2`, state: "up" },
      { id: `${NAME}9`, error: { message: expect.stringMatching(/it is not in job \d+/) } },
    ]);
    expect(all.filter((r) => r.kind === "exit").map((r) => r.stdout)).toEqual(
      expect.arrayContaining([`${NAME}1\n`, `${NAME}2\n`]),
    );
  });

  test("mt-launch in a batch script: up on all nodes of the job, checked, down, and the tree with it", () => {
    const topology = `/tmp/testbed-${NAME}/ring`;
    const done = batch(
      N,
      `mt-topo gen ring --routers ${N} >${topology}; mt-launch up ${topology} --via slurm; mt-launch check ring-${N}; mt-launch down ring-${N}`,
    );
    const verdict = { kind: "verdict", hosts: N, routers: N, converged: N };
    expect(records(done.stdout)).toMatchObject([verdict, verdict]);
    expect(noAgents()).toBe(true);
    for (const k of [1, 2, 3, 4]) expect(bed.on(k, "find /run/megatux/*/*").stdout).toBe("");
  });

  test("a tree that is here by another way is not taken for the job's", () => {
    const done = bed.allocated(
      1,
      `mt-tree up ${NAME}l --via local >/dev/null || exit; mt-tree up --via slurm; echo $?; mt-tree down`,
    );
    expect(done.stdout).toBe("75\n");
    expect(done.stderr).toMatch(/Cannot bring up a tree --via slurm: the one that is here is --via local/);
  });

  test("outside an allocation it says so", () => {
    const done = bed.on(0, "mt-tree up --via slurm");
    expect(done.code).toBe(69);
    expect(done.stderr).toMatch(/not inside an allocation.*\n {2}hint: salloc/);
    expect(bed.on(0, "ls /run/megatux/tree").code).not.toBe(0);
  });
});

describe("without a tree, a tool acts on its own host's records", () => {
  const plan = `/tmp/testbed-${NAME}/plan`;
  const set = `${NAME}[1-${N}]`;
  /** Of the plan's routers, which ones have a namespace on which host. */
  const routers = () =>
    hosts.map((_, k) =>
      bed
        .on(k + 1, "ip netns list | cut -d' ' -f1 | cut -d: -f4 | sort")
        .stdout.split("\n")
        .slice(0, -1),
    );
  let planned: string[][];

  beforeAll(() => {
    const hostLines = hosts.map(
      (id, k) => `{"kind":"host","id":"${id}","addr":"10.77.0.${k + 2}","cores":2,"mem_mib":1000}\n`,
    );
    const made = bed.on(
      0,
      `printf %s '${hostLines.join("")}' >/root/hosts; mt-topo import ${process.cwd()}/examples/abilene.gml | mt-topo place /root/hosts >${plan}`,
    );
    expect(made).toMatchObject({ code: 0, stderr: "" });
    const all = records(bed.on(0, `cat ${plan}`).stdout).filter((r) => r.kind === "router");
    planned = hosts.map((h) => all.flatMap((r) => (r.host === h ? [r.id] : [])).sort());
    expect(planned.every((ids) => ids.length > 0)).toBe(true);
  });

  const starters: [string, (tool: string) => string][] = [
    ["srun", (tool) => `srun -N${N} --input=all ${tool} --only <${plan}`],
    ["clush", (tool) => `clush -L -N -w '${set}' ${process.cwd()}/dist/${tool} --only <${plan}`],
    [
      "GNU parallel",
      (tool) =>
        `parallel --will-cite --onall -S ${hosts.join()} '${process.cwd()}/dist/${tool} --only <{}' ::: ${plan}`,
    ],
  ];
  for (const [starter, line] of starters)
    test(`under ${starter}: mt-vnet up and down, mt-ksm report`, () => {
      const up = bed.on(0, line("mt-vnet up"));
      expect(up).toMatchObject({ code: 0 });
      const told = records(up.stdout).filter((r) => r.kind === "switch");
      expect(new Set(told.map((r) => r.host))).toEqual(new Set(hosts));
      expect(routers()).toEqual(planned);
      const report = bed.on(0, line("mt-ksm report"));
      expect(
        records(report.stdout)
          .map((r) => r.host)
          .sort(),
      ).toEqual(hosts);
      const down = bed.on(0, line("mt-vnet down"));
      expect(down.code).toBe(0);
      expect(routers()).toEqual(hosts.map(() => []));
    });

  test("clush folds what is equal, pdsh and taktuk start it too", () => {
    const version = bed.on(0, `clush -b -w '${set}' ${process.cwd()}/dist/mt-boot --version`);
    expect(version.stdout).toMatch(new RegExp(`^-+\n${NAME}\\[1-${N}\\] \\(${N}\\)\n-+\nmt-boot \\d`));
    const report = `${process.cwd()}/dist/mt-ksm report --only </dev/null`;
    const pdsh = bed.on(0, `pdsh -R ssh -N -w '${set}' '${report}'`);
    expect(
      records(pdsh.stdout)
        .map((r) => r.host)
        .sort(),
    ).toEqual(hosts);
    const taktuk = bed.on(
      0,
      `taktuk -o status -o output='"$line\\n"' -m ${hosts.join(" -m ")} broadcast exec [ '${report}' ]`,
    );
    expect(
      records(taktuk.stdout)
        .map((r) => r.host)
        .sort(),
    ).toEqual(hosts);
  });
});

test("nothing is left of the hosts", () => {
  bed.down();
  expect(existsSync(`/tmp/testbed-${NAME}`)).toBe(false);
  for (const k of [0, 1, 2, 3, 4]) expect(existsSync(`/run/netns/${NAME}${k}`)).toBe(false);
});
