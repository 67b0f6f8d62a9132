/**
 * `mt --plans`, called by the script mt-launch: makes the directory of its plans under MT_STATE if it is missing, and
 * prints it. Exits 77 where another user could write to it or anything in it: the script opens files by name.
 */
import { join } from "node:path";
import { complain } from "../../shared/cli/start.ts";
import { stderrStyle } from "../../shared/cli/stderr.ts";
import { EXIT, toMtError } from "../../shared/errors.ts";
import { stateDir } from "../../shared/host/names.ts";
import { ownFlatDir } from "../../shared/own-place.ts";
import { StdoutClosed, writeAll } from "../../shared/stream/writer.ts";

const TOOL = "mt-launch";
stderrStyle(TOOL, process.env.MT_LOG === "json" ? "json" : "text");

function plans(): number {
  try {
    writeAll(1, Buffer.from(`${ownFlatDir(join(stateDir(), "plans"))}\n`));
    return EXIT.ok;
  } catch (thrown) {
    if (thrown instanceof StdoutClosed) return EXIT.io;
    return complain(TOOL, toMtError(thrown));
  }
}
process.exitCode = plans();
