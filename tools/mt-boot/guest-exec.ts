/** What `exec` does in one guest, as the supervisor does it: an `exit` record comes of it whatever happens. */
import { err } from "neverthrow";
import { mtError } from "../../shared/errors.ts";
import type { Exit } from "../../shared/records/index.ts";
import { runInGuest } from "./agent.ts";
import type { Entry } from "./entry.ts";
import { type ExecRequest, nameGuest } from "./protocol.ts";
import { fillWords } from "./words.ts";

/** Of each of stdout and stderr of a command in a guest. */
const OUTPUT_BYTES_MAX = 256 * 1024;
export async function execIn(
  entry: Entry | undefined,
  target: ExecRequest["targets"][number],
  request: ExecRequest,
  host: string,
  gone: AbortSignal,
): Promise<Exit> {
  const began = performance.now();
  const exit = (more: Partial<Exit>): Exit => ({
    kind: "exit",
    id: target.id,
    host,
    guest: target.id,
    ...more,
    seconds: Math.round(performance.now() - began) / 1000,
  });
  if (!entry?.machine || entry.state !== "ready") {
    const error = mtError(
      "failed",
      `Cannot run ${request.argv[0]} in ${target.id}: the guest is ${entry ? entry.state : "not there"}`,
      entry?.state === "paused" ? "mt-boot resume" : "mt-boot up",
    );
    return exit({ state: "failed", error: { by: "mt-boot", ...error } });
  }
  const { machine } = entry;
  const words = fillWords(request.argv, target.record ?? entry.record);
  const limits = {
    timeout_s: request.timeout_s,
    output_bytes_max: OUTPUT_BYTES_MAX,
    signal: gone,
    session: true,
  };
  const done = words.isErr() ? err(words.error) : await runInGuest(machine.agent, words.value, limits);
  if (done.isErr())
    return exit({ state: "failed", error: { by: "mt-boot", ...nameGuest(done.error, target.id)! } });
  const { code, signal, truncated, ...output } = done.value;
  return exit({
    ...(code === undefined ? {} : { code }),
    ...(signal === undefined ? {} : { signal }),
    ...output,
    ...(truncated ? { truncated } : {}),
  });
}
