/** `mt --links`, called by mt-tree on hosts that it has brought mt to: a link a tool, beside this file. */
import { renameSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { TOOLS } from "./tools.ts";

const dir = dirname(process.execPath);
for (const tool of Object.keys(TOOLS)) {
  // Into place in one step: another host with the same home may be at it, or at work with them.
  const made = join(dir, `.${tool}.${process.pid}`);
  symlinkSync("mt", made);
  renameSync(made, join(dir, tool));
}
