/** How mt-push names the hosts that it asks. */
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { namedHosts } from "../../shared/nodeset/groups.ts";
import { nameHosts } from "../../tools/mt-push/spread/cluster.ts";
import { withEnv } from "../unit/shared/fixtures.ts";

test("more hosts than fit into a word are named by a group, for as long as the call takes", () => {
  const letters = (i: number) => String(10_000 + i).replaceAll(/\d/g, (d) => "abcdefghij"[Number(d)]!);
  const hosts = Array.from({ length: 8_000 }, (_, i) => `host-of-a-cloud-${letters(i)}`);
  expect(nameHosts(["kn1", "kn2"])).toMatchObject({ set: "kn[1-2]" });
  const { set, env, done } = nameHosts(hosts);
  expect([set, env!.MT_GROUPS]).toEqual(["@these", expect.stringMatching(/groups$/)]);
  withEnv({ MT_GROUPS: env!.MT_GROUPS });
  expect(namedHosts(set)._unsafeUnwrap().sort()).toEqual([...hosts].sort());
  done();
  expect(existsSync(env!.MT_GROUPS!)).toBe(false);
});
