/** `mt --links`, called by mt-tree on hosts that it has copied mt to: makes a link for each tool beside this file. */
import { renameSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { TOOLS } from "./tools.ts";

const dir = dirname(process.execPath);
for (const tool of Object.keys(TOOLS)) {
  // Renamed into place: another host with the same home may be making the links, or using them.
  const made = join(dir, `.${tool}.${process.pid}`);
  symlinkSync("mt", made);
  renameSync(made, join(dir, tool));
}
