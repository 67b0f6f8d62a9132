/** A network in parts, two routers with a link and one alone: up and true, with the pings that cannot be left out. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab, records } from "./lab.ts";

describe.skipIf(process.getuid?.() !== 0)("a network in parts (needs root)", () => {
  let lab: Lab;
  beforeAll(() => {
    lab = new Lab();
    lab.image();
    writeFileSync(
      join(lab.dir, "parts.gml"),
      'graph [ node [ id 0 label "a" ] node [ id 1 label "b" ] node [ id 2 label "alone" ] edge [ source 0 target 1 ] ]',
    );
  });
  afterAll(() => {
    lab?.sh("mt-launch down parts");
    lab?.remove();
  });

  test("every router converges on its own part, and the verdict is true", () => {
    const done = lab.sh("mt-launch up parts.gml --hosts tep1 --guests 6");
    expect(done.stderr).toContain("the graph is in 2 parts with no link between them, of 2, 1 routers");
    expect(done.stderr).not.toMatch(/Cannot/);
    // Two guests a router: those of a and b ping across their link, those of the third each other.
    expect(records(done.stdout)).toEqual([
      expect.objectContaining({
        ...{ kind: "verdict", routers: 3, converged: 3, guests: 6, ready: 6 },
        ...{ pairs_tried: 6, pairs_reached: 6, pairs_left_out: 8 },
      }),
    ]);
    expect(done.code).toBe(0);
    const down = lab.sh("mt-launch down parts; mt-tree down");
    expect([down.code, lab.namespaces().filter((n) => n.includes("tep1"))]).toEqual([0, []]);
  });
});
