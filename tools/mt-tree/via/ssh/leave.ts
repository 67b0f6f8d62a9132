/**
 * Ends agents through the tree, as far as it is up: the deepest first, so that no agent is cut off before it was told.
 * Each agent's files are removed, too. Agents that cannot be reached this way are ended by what started them.
 */
import type { Result } from "neverthrow";
import type { MtError } from "../../../../shared/errors.ts";
import { waitFor } from "../../../../shared/host/process.ts";
import type { HostStatus } from "../../link/messages.ts";
import { TreeClient } from "../../session/client.ts";

/** Seconds in which all agents of one depth have to end. */
const END_S = 5;

/** Run by the agent, in a session of its own so that it outlives it: ends the agent and removes its directory. */
const LEAVE = `
setsid sh -c '
  kill "$1"; n=0
  while tr -d "\\0" <"/proc/$1/cmdline" 2>/dev/null | grep -q . && [ $n -lt 40 ]; do
    n=$((n + 1)); [ $n -ne 30 ] || kill -9 "$1"; sleep 0.1 2>/dev/null || sleep 1
  done
  rm -rf -- "$2"; rmdir -- "\${2%/*}" "\${2%/*/*}" 2>/dev/null
' sh "$PPID" "\${MT_AGENT_DIR:?}" </dev/null >/dev/null 2>&1 &
echo leaving`;

/** Gives the hosts whose agents are known to have ended. */
export async function leaveTree(): Promise<Set<string>> {
  const gone = new Set<string>();
  const client = (await TreeClient.connect()).unwrapOr(undefined);
  if (!client) return gone;
  const present = async () => (await client.list()).map((hosts) => hosts.filter((h) => h.present));
  // Where the head does not answer any more, nothing is known of the agents that are left.
  for (let there = (await present()).unwrapOr([]); there.length > 0; ) {
    const depth = Math.max(...there.map((h) => h.depth ?? 1));
    const last = there.filter((h) => (h.depth ?? 1) === depth);
    for (const host of await leave(client, last, present)) gone.add(host);
    there = (await present()).unwrapOr([]);
    // An agent that does not end is not asked again.
    if (there.some((h) => last.some((l) => l.host === h.host && l.epoch === h.epoch))) break;
  }
  client.close();
  return gone;
}

async function leave(
  client: TreeClient,
  hosts: HostStatus[],
  present: () => Promise<Result<HostStatus[], MtError>>,
): Promise<string[]> {
  const told = new Set<string>();
  const names = hosts.map((h) => h.host);
  const session = client.session(
    { argv: ["sh", "-c", LEAVE], env: {}, stdin: false },
    {
      output: (host, _fd, bytes) => void (String(bytes).includes("leaving") && told.add(host)),
      exit: () => {},
    },
    names.length,
  );
  session.run(names);
  let left = names;
  await waitFor(
    async () => {
      const there = await present();
      if (there.isErr()) return true;
      const hosts = new Set(there.value.map((h) => h.host));
      left = names.filter((n) => hosts.has(n));
      return left.length === 0 ? true : undefined;
    },
    END_S,
    20,
  );
  return names.filter((n) => told.has(n) && !left.includes(n));
}
