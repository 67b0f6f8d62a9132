/**
 * Makes what only this guest may have, once it has its identity, by a program of its image: ssh host keys, and the
 * services that must not run before. The program can be run again: it does what is not done yet.
 */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { OWN_PROGRAM } from "../../../../shared/guest-protocol.ts";
import { type Agent, runInGuest } from "../../guest/agent.ts";

const OUTPUT_BYTES_MAX = 4096;

/** The guest is ready only if the program exits with 0. */
export async function makeOwn(agent: Agent, timeout_s: number): Promise<Result<void, MtError>> {
  const done = await runInGuest(agent, [OWN_PROGRAM], { timeout_s, output_bytes_max: OUTPUT_BYTES_MAX });
  return done.andThen(({ code, signal, stderr }) => {
    if (code === 0) return ok(undefined);
    const why = stderr.trim().split("\n").pop() || `${OWN_PROGRAM}: exit code ${code ?? signal}`;
    return fail("failed", `Cannot give {id} its own keys and services: ${why}`);
  });
}
