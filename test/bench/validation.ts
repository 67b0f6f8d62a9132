/** Checks of a guest record a second: TypeBox, as shared/records uses it, beside zod with the same rules. */
import { TypeCompiler } from "@sinclair/typebox/compiler";
import { z } from "zod";
import { CIDR_PATTERN, ID_PATTERN, IP_PATTERN, RANGE_PATTERN } from "../../shared/records/fields.ts";
import { GUEST_STATES, guestExamples, guestSchema } from "../../shared/records/guest.ts";
import { validate } from "../../shared/records/validate.ts";
import { median, report, timed } from "./measure.ts";

const count = z.number().int().min(0).max(4294967295);
const id = z.string().max(40).regex(new RegExp(ID_PATTERN));
const zodGuest = z.looseObject({
  kind: z.literal("guest"),
  id: z.string().regex(new RegExp(RANGE_PATTERN)),
  host: id.optional(),
  index: count,
  image: id,
  cores: count.min(1),
  mem_mib: count.min(1),
  interfaces: z
    .array(
      z.looseObject({
        segment: id,
        ip: z.string().regex(new RegExp(CIDR_PATTERN)).optional(),
        gateway: z.string().regex(new RegExp(IP_PATTERN)).optional(),
      }),
    )
    .max(256),
  state: z.enum(GUEST_STATES).optional(),
});
const records = Array.from({ length: 1000 }, (_, i) => ({
  ...guestExamples[0]!,
  id: `g[${i}-${i + 9}]`,
  index: i,
}));

function rate(check: (record: unknown) => boolean, rounds: number): number {
  const run = () => {
    for (let i = 0; i < rounds; i++)
      for (const r of records) if (!check(r)) throw new Error("refused a valid record");
  };
  run();
  return (records.length * rounds) / median(timed(5, run));
}
const compiled = TypeCompiler.Compile(guestSchema);
if (
  compiled.Check({ ...records[0], id: "../x" }) ||
  zodGuest.safeParse({ ...records[0], id: "../x" }).success
)
  throw new Error("took a bad record");
report(
  "validation, guest records, TypeBox compiled",
  rate((r) => compiled.Check(r), 500),
  "records/s",
);
report(
  "validation, as the tools do it (validate)",
  rate((r) => validate("guest", r).isOk(), 500),
  "records/s",
);
report(
  "  beside: zod",
  rate((r) => zodGuest.safeParse(r).success, 100),
  "records/s",
);
