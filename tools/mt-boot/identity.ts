/**
 * Who a guest is: what is asked of /sbin/mt-identity inside it, and whether the kernel there then says the
 * same. A guest is ready when it does.
 */
import { ok, type Result } from "neverthrow";
import { guestMac } from "../../shared/addresses.ts";
import { fail, type MtError } from "../../shared/errors.ts";
import type { Guest } from "../../shared/records/index.ts";
import { type Agent, type GuestExit, runInGuest } from "./agent.ts";

const IDENTITY_PROGRAM = "/sbin/mt-identity";
const OUTPUT_BYTES_MAX = 64 * 1024;

/** mt-identity NAME [MAC,IP/LEN,GATEWAY]… */
export function identityArgv(guest: Guest): string[] {
  const links = guest.interfaces.map(
    (nic, i) => `${guestMac(guest.index, i)},${nic.ip ?? ""},${nic.gateway ?? ""}`,
  );
  return [IDENTITY_PROGRAM, guest.id, ...links];
}

/** The lines that it must print: what the guest's kernel says afterwards. */
export function identityFacts(guest: Guest): string[] {
  return [
    `hostname ${guest.id}`,
    ...guest.interfaces.map(
      (nic, i) => `eth${i} ${guestMac(guest.index, i)} ${nic.ip ?? "-"} ${nic.gateway ?? "-"}`,
    ),
  ];
}

export function checkIdentity(guest: Guest, done: GuestExit): Result<void, MtError> {
  const said = done.stdout.trim().split("\n");
  if (done.code !== 0) {
    const why = done.stderr.trim().split("\n").pop() || `exit code ${done.code ?? done.signal}`;
    return fail("failed", `Cannot give {id} its identity: ${why}`);
  }
  const facts = identityFacts(guest);
  const wrong = facts.findIndex((fact, i) => said[i] !== fact);
  if (wrong < 0) return ok(undefined);
  return fail(
    "failed",
    `Cannot give {id} its identity: its kernel says ${JSON.stringify(said[wrong] ?? "nothing")}, asked for ${JSON.stringify(facts[wrong])}`,
  );
}

/** Tells a guest who it is, and reads back that it is. May be done again. */
export async function giveIdentity(
  agent: Agent,
  guest: Guest,
  timeout_s: number,
): Promise<Result<void, MtError>> {
  const done = await runInGuest(agent, identityArgv(guest), {
    timeout_s,
    output_bytes_max: OUTPUT_BYTES_MAX,
  });
  return done.andThen((exit) => checkIdentity(guest, exit));
}
