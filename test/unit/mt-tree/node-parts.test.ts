/** What a node decides, without its links and clock: which ancestor it tries, which hosts the head calls lost. */
import { describe, expect, it } from "vitest";
import type { Presence } from "../../../tools/mt-tree/link/messages.ts";
import { HostStates } from "../../../tools/mt-tree/node/host-states.ts";
import { JoinPlan } from "../../../tools/mt-tree/node/join-plan.ts";
import { Passes } from "../../../tools/mt-tree/node/passes.ts";

const presence = (host: string, more: Partial<Presence> = {}): Presence => ({
  ...{ host, epoch: "a", join: 1, parent: "head", release: "0" },
  ...more,
});

describe("which ancestor a node joins", () => {
  it("the nearest first; one that was silent last, until another try has failed", () => {
    const plan = new JoinPlan(3, 0);
    expect(plan.order()).toEqual([0, 1, 2]);
    plan.lost(0, true, 5);
    expect(plan.order()).toEqual([1, 2, 0]);
    plan.lost(2, true, 6);
    expect(plan.order()).toEqual([0, 1, 2]);
    plan.lost(1, false, 7);
    expect(plan.order()).toEqual([0, 1, 2]);
    plan.lost(0, true, 8);
    plan.failed(9);
    expect(plan.order()).toEqual([0, 1, 2]);
  });

  it("one that finds nobody ends its commands after 10 s, itself after a minute, counted from the last link", () => {
    const plan = new JoinPlan(1, 1_000);
    expect([11_000, 11_001, 61_000, 61_001].map((now) => plan.failed(now))).toEqual([
      "try again",
      "end commands",
      "end commands",
      "give up",
    ]);
    plan.lost(0, false, 70_000);
    expect(plan.failed(71_000)).toBe("try again");
  });
});

describe("what the head says of hosts", () => {
  const at = (ms: number) => new Date(ms).toISOString();
  const places = ["n0", "n1"].map((name) => ({ name, addr: "", port: 0 }));
  /** As a list of the head shows a host that is reached, or not. */
  const shown = (states: HostStates, host: string, p?: Presence) =>
    states
      .list("head", (h) => (h === host && p ? { presence: p, rtt_ms: 1 } : undefined))
      .find((h) => h.host === host);

  it("a host that is gone is moving, then lost; each is told once", () => {
    const states = new HostStates();
    states.expect(places, 0);
    expect(shown(states, "n0")).toMatchObject({ present: false, since: at(0), moving: undefined });
    states.joined(presence("n0"), 10);
    expect(shown(states, "n0", presence("n0"))).toMatchObject({
      present: true,
      since: at(10),
      depth: 1,
      rtt_ms: 1,
    });
    expect(states.gone("n0", 100, 20)).toBe(120);
    expect(shown(states, "n0")).toMatchObject({ present: false, since: at(20), moving: true, epoch: "a" });
    expect([states.deadline, states.takeLost(119)]).toEqual([120, []]);
    expect(states.takeLost(120)).toEqual([{ host: "n0", since: at(20) }]);
    expect([states.takeLost(500), states.deadline]).toEqual([[], undefined]);
    expect(shown(states, "n0")).toMatchObject({ present: false, since: at(20), moving: undefined });
  });

  it("the same agent that joins again in time was there all the time; another, or one that was lost, is there since now", () => {
    const states = new HostStates();
    states.expect(places, 0);
    states.joined(presence("n0"), 10);
    states.gone("n0", 100, 20);
    states.joined(presence("n0", { join: 2, parent: "n1" }), 30);
    expect(states.takeLost(1_000)).toEqual([]);
    expect(shown(states, "n0", presence("n0"))).toMatchObject({ since: at(10) });
    states.joined(presence("n0", { epoch: "b" }), 40);
    expect(shown(states, "n0", presence("n0"))).toMatchObject({ since: at(40) });
    states.gone("n0", 5, 50);
    states.takeLost(60);
    states.joined(presence("n0", { epoch: "b", join: 2 }), 70);
    expect(shown(states, "n0", presence("n0"))).toMatchObject({ since: at(70) });
  });

  it("parents that go round in a circle have some depth", () => {
    const states = new HostStates();
    states.expect(places, 0);
    const parents: Record<string, string> = { n0: "n1", n1: "n0" };
    const listed = states.list("head", (host) => ({
      presence: presence(host, { parent: parents[host]! }),
      rtt_ms: undefined,
    }));
    expect(listed.every((h) => h.depth! > 0)).toBe(true);
  });
});

it("a child speaks for itself, and for hosts whose signed pass lists it", () => {
  const pass = (...relays: string[]) => ({ relays, signature: `signed ${relays}` });
  let checked = 0;
  const passes = new Passes((p) => {
    checked++;
    return p.pass!.signature.startsWith("signed");
  });
  expect([passes.maySpeak("n1", "n1"), passes.maySpeak("n1", "n5")]).toEqual([true, false]);
  passes.learn(presence("n5", { pass: { relays: ["n9"], signature: "forged" } }));
  expect(passes.maySpeak("n9", "n5")).toBe(false);
  passes.learn(presence("n5", { pass: pass("n1") }));
  passes.learn(presence("n5", { pass: pass("n1") }));
  expect([passes.maySpeak("n1", "n5"), passes.maySpeak("n9", "n5"), checked]).toEqual([true, false, 2]);
  expect(new Passes(undefined).maySpeak("n9", "n5")).toBe(true);
});
