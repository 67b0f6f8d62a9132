/** `mt-status hosts`: a table of what `mt-status able` and `mt-boot prove` found on every host. */
import type { Run } from "../../../shared/cli/invocation.ts";
import { plain } from "../../../shared/cli/plain.ts";
import { warn } from "../../../shared/cli/stderr.ts";
import { tableLines } from "../../../shared/cli/table.ts";
import { EXIT } from "../../../shared/errors.ts";
import type { Host } from "../../../shared/records/index.ts";
import { runFilter } from "../../../shared/stream/filter.ts";
import { stdinChunks } from "../../../shared/stream/stdin.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { spec } from "../spec.ts";
import type { Abilities } from "./able.ts";

export const hosts: Run<typeof spec, "hosts"> = async (invocation) => {
  const seen = new Map<string, Host & { able?: Abilities; accel?: string }>();
  const result = await runFilter(
    { by: "mt-status", host: "", only: true, changes: false, reads: { host: (h) => void seen.set(h.id, h) } },
    { input: stdinChunks(), signal: invocation.signal },
  );
  if (result.error) warn(result.error);
  const names = [...new Set([...seen.values()].flatMap((h) => Object.keys(h.able ?? {})))];
  const rows = [
    ["HOST", "ADDR", "CORES", "MEM_MIB", "GUESTS BOOT ON", "FRAMES", ...names.map((n) => n.toUpperCase())],
  ];
  for (const h of seen.values())
    rows.push([
      h.id,
      h.addr ?? "-",
      String(h.cores),
      String(h.mem_mib),
      h.accel ?? "-",
      h.frames ?? "-",
      ...names.map((n) => h.able?.[n]?.found ?? "-"),
    ]);
  const writer = new LineWriter();
  for (const line of tableLines(rows)) writer.line(line);
  for (const h of seen.values())
    if (h.state === "failed" && h.error)
      writer.line(
        `${plain(`${h.id}: ${h.error.message}`)}${h.error.hint ? `\n  mend: ${plain(h.error.hint)}` : ""}`,
      );
  writer.flush();
  if (result.code !== EXIT.ok) return result.code;
  return [...seen.values()].some((h) => h.state === "failed") ? EXIT.unavailable : EXIT.ok;
};
