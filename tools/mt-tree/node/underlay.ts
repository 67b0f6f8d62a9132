/** MTU of the network that carries this host's tunnels. */
import { execFile } from "node:child_process";
import { findProgram } from "../../../shared/host/process.ts";

const IP_TIMEOUT_MS = 5000;

/** MTU of the interface that has this address here; undefined where none has it, or ip is missing. */
export function underlayMtu(addr: string): Promise<number | undefined> {
  const ip = findProgram("ip");
  if (ip.isErr()) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const args = ["-j", "address", "show", "to", `${addr}/32`];
    execFile(ip.value, args, { timeout: IP_TIMEOUT_MS }, (error, stdout) => {
      try {
        const links = error ? [] : (JSON.parse(stdout || "[]") as { mtu?: number }[]);
        resolve(links.find((l) => l.mtu !== undefined)?.mtu);
      } catch {
        resolve(undefined);
      }
    });
  });
}
