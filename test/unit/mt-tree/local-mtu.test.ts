/** `mt-tree up --via local --mtu`: the MTU that is asked for, by host. */
import { describe, expect, it } from "vitest";
import { mtusOf } from "../../../tools/mt-tree/via/local/mtu.ts";

const HOSTS = ["kn1", "kn2", "kn3"];
const given = (...words: string[]) => mtusOf(words, HOSTS).map((mtus) => HOSTS.map((host) => mtus.get(host)));

describe("the MTUs of local hosts", () => {
  it("are for all, or for a node set, which wins; nothing said changes nothing", () => {
    expect(given()._unsafeUnwrap()).toEqual([undefined, undefined, undefined]);
    expect(given("1400")._unsafeUnwrap()).toEqual([1400, 1400, 1400]);
    expect(given("kn[1-2]=9000")._unsafeUnwrap()).toEqual([9000, 9000, undefined]);
    expect(given("kn2=1280", "9000")._unsafeUnwrap()).toEqual([9000, 1280, 9000]);
    expect(given("kn[1-3]=9000", "kn3=1500")._unsafeUnwrap()).toEqual([9000, 9000, 1500]);
  });

  it("that cannot be are refused, and so is a host that is not there", () => {
    for (const word of ["", "wide", "625", "65536", "kn1=", "=1500", "kn1=9000x", "-1"])
      expect(given(word)._unsafeUnwrapErr().message).toContain("Cannot use --mtu");
    expect(given("kn9=1500")._unsafeUnwrapErr().message).toContain("kn9 is no host of this tree");
    expect(given("kn[1=1500").isErr()).toBe(true);
  });
});
