/** schemas/ as shipped, by another validator than ours: every example is valid, every broken one is not. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { toolSchema } from "../../shared/cli/schema.ts";
import { KINDS, type Kind } from "../../shared/records/index.ts";
import { kindSchema } from "../../shared/records/json-schema.ts";
import { validate } from "../../shared/records/validate.ts";
import { spec as boot } from "../../tools/mt-boot/spec.ts";
import { expectRecords, type Rec, wrongWith } from "../support/records.ts";

const kinds = Object.keys(KINDS) as Kind[];
const examples = (kind: Kind) => KINDS[kind].examples as unknown as Rec[];

describe.each(kinds)("%s", (kind) => {
  test("its examples are valid, also with fields that nobody knows", () => {
    expect(examples(kind).length).toBeGreaterThan(0);
    for (const example of examples(kind)) {
      expect(wrongWith(example)).toEqual([]);
      expect(wrongWith({ ...example, from_the_future: [1] })).toEqual([]);
    }
  });

  test("a field that is missing or of another type is found, and ours agrees", () => {
    const required = kindSchema(kind).required as string[];
    for (const example of examples(kind)) {
      for (const field of required.filter((f) => f !== "kind")) {
        const { [field]: _, ...without } = example;
        expect(wrongWith(without as Rec)).toEqual([`${kind} must have required property '${field}'`]);
        expect(validate(kind, without).isErr()).toBe(true);
      }
      for (const field of Object.keys(kindSchema(kind).properties as object)) {
        if (field === "kind") continue;
        const broken = { ...example, [field]: null } as unknown as Rec;
        expect(wrongWith(broken).join()).toContain(`${kind}/${field}`);
        expect(validate(kind, broken).isErr()).toBe(true);
      }
    }
  });
});

test.each([
  [{ kind: "guest", id: "../x" }, "guest/id"],
  [{ kind: "guest", id: "g0;reboot" }, "guest/id"],
  [{ kind: "guest", mem_mib: 0 }, "guest/mem_mib"],
  [{ kind: "guest", state: "asleep" }, "guest/state"],
  [{ kind: "segment", vni: 16777216 }, "segment/vni"],
  [{ kind: "segment", prefix: "10.0.0.0/33" }, "segment/prefix"],
])("%j breaks it, at %s", (change, where) => {
  expect(wrongWith({ ...examples(change.kind as Kind)[0]!, ...change }).join()).toContain(where);
});

test("expectRecords names the record that is wrong", () => {
  const good = JSON.stringify(examples("guest")[0]);
  expect(expectRecords(`${good}\n{"kind":"sonnet","id":"x"}\n`)).toHaveLength(2);
  expect(() => expectRecords(`${good}\n{"kind":"end","id":"x"}\n`)).toThrow(/end must have .*counts/);
});

test("--schema: one document for a tool and for a command, that takes their kinds and no others", () => {
  const ajv = new Ajv2020({ strict: true });
  const takes = (command?: string) => {
    const check = ajv.compile(toolSchema(boot, command));
    return kinds.filter((k) => check(examples(k)[0]));
  };
  expect(takes()).toEqual(["experiment", "host", "image", "guest", "sample", "exit", "error"]);
  expect(takes("ls")).toEqual(["guest"]);
});
