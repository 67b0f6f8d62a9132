/** How mt-tree reads Slurm's messages, and certificates for keys that never leave their agents. */
import { X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { certify, dnsName, makeAuthority, makeKey } from "../../../tools/mt-tree/link/authority.ts";
import { addressTowards, memoryMib, nodeFields, perNode } from "../../../tools/mt-tree/via/slurm/nodes.ts";
import { unreachedNodes } from "../../../tools/mt-tree/via/slurm/slurm.ts";

test("cores of every node, as SLURM_JOB_CPUS_PER_NODE has them", () => {
  expect(perNode("2(x3),4")).toEqual([2, 2, 2, 4]);
  expect(perNode("72")).toEqual([72]);
  expect(perNode("")).toEqual([]);
});

test("memory that the job asked for; none is all of the node's", () => {
  expect(memoryMib({ SLURM_MEM_PER_NODE: "4000" }, 2)).toBe(4000);
  expect(memoryMib({ SLURM_MEM_PER_CPU: "500" }, 4)).toBe(2000);
  expect(memoryMib({ SLURM_MEM_PER_NODE: "0" }, 2)).toBeUndefined();
  expect(memoryMib({}, 2)).toBeUndefined();
});

test("the fields of nodes, among values with blanks", () => {
  const text = `NodeName=kn1 Arch=x86_64 CoresPerSocket=1 CPUTot=2 NodeAddr=10.0.0.1 NodeHostName=kn1 Version=22.05.8 OS=Linux 6.1.0 #1 SMP Debian 6.1 RealMemory=1000 AllocMem=0 Reason=Not responding [slurm@2026-01-01T00:00:00]
NodeName=kn2 CPUTot=4 NodeAddr=kn2.example RealMemory=2000
`;
  expect(nodeFields(text)).toMatchObject([
    { NodeName: "kn1", CPUTot: "2", NodeAddr: "10.0.0.1", RealMemory: "1000" },
    { NodeName: "kn2", CPUTot: "4", NodeAddr: "kn2.example", RealMemory: "2000" },
  ]);
});

test("nodes that srun could not start its task on", () => {
  const said = `srun: error: Task launch for StepId=1.0 failed on node kn2: Communication connection failure
srun: error: Application launch failed: Communication connection failure
srun: error: kn3: task 2: Killed\n`;
  expect([...unreachedNodes(said)]).toEqual([["kn2", "Communication connection failure"]]);
});

test("our address is the one on the way there", async () => {
  expect(await addressTowards("127.0.0.1")).toBe("127.0.0.1");
});

test("a node's certificate is for its own key, in the name that was asked for and by this authority alone", async () => {
  const [authority, other] = [await makeAuthority("a"), await makeAuthority("b")];
  const { publicKey, key } = await makeKey();
  const cert = new X509Certificate(await certify(authority, "kn1", publicKey));
  expect(cert.publicKey.export({ type: "spki", format: "der" }).toString("base64")).toBe(publicKey);
  expect(key).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
  expect(cert.checkHost(dnsName("kn1"))).toBe(dnsName("kn1"));
  expect(cert.verify(new X509Certificate(authority.cert).publicKey)).toBe(true);
  expect(cert.verify(new X509Certificate(other.cert).publicKey)).toBe(false);
  await expect(certify(authority, "kn1", Buffer.from("no key").toString("base64"))).rejects.toThrow();
});
