/**
 * Wires inside ssh: the head runs one ssh for every host, and the agent there talks over its stdin and stdout. Nobody
 * listens on a port; ssh authenticates and encrypts. The agent ends when its wire does.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { err, ok } from "neverthrow";
import { inform } from "../../../../shared/cli/stderr.ts";
import { cleanEnv, findProgram } from "../../../../shared/host/process.ts";
import { stdoutStream } from "../../../../shared/stream/writer.ts";
import { type Place, streamWire, type Transport, type Wire } from "../../link/wire.ts";
import type { NodeConfig, SshLinks } from "../../node/config.ts";
import { MARK } from "../marker.ts";
import { LINK } from "./bootstrap.ts";
import { sshArgv, stdinOf, withVariables } from "./run.ts";

/** Seconds, after the connection, in which the agent must have started. */
const START_S = 20;
const LINKED = Buffer.from(`${MARK}link\n`);

/** The head's end: runs an ssh for each host that it is told to connect to and has none for. */
export function sshTransport(links: SshLinks, head: Place, silence_ms: number): Transport {
  const running = new Map<string, ChildProcess>();
  let accept: (wire: Wire, name: string) => void = () => {};
  return {
    async listen(_self, take) {
      accept = take;
    },
    dial: async () => err("nobody is above the head"),
    // One level deep: a host speaks for itself and for nobody else.
    passHolds: () => false,
    reach(hosts) {
      for (const host of hosts) if (!running.has(host.name)) open(host);
    },
  };

  function open(host: Place): void {
    const program = findProgram(links.command[0] ?? "ssh");
    if (program.isErr()) return inform(program.error.message);
    const script = withVariables({ host: host.name, ...links.variables }, LINK);
    const argv = sshArgv({ ...links, host: host.name }, script);
    const child = spawn(program.value, argv, { stdio: ["pipe", "pipe", "inherit"], env: cleanEnv() });
    running.set(host.name, child);
    const config: NodeConfig = {
      self: { ...host, port: 0 },
      ancestors: [{ ...head, port: 0 }],
      silence_ms,
    };
    child.stdin.on("error", () => {});
    child.stdin.write(stdinOf(script));
    child.stdin.write(`${JSON.stringify(config)}\n`);
    const late = setTimeout(() => child.kill(), (links.connect_s + START_S) * 1000);
    const over = () => {
      clearTimeout(late);
      if (running.get(host.name) === child) running.delete(host.name);
    };
    child.on("error", (e) => {
      inform(`Cannot run ${program.value}: ${e.message}`);
      over();
    });
    child.on("close", over);
    // Before the marker a profile may print anything.
    let said: Buffer = Buffer.alloc(0);
    child.stdout.on("data", function look(this: Readable, chunk: Buffer) {
      said = Buffer.concat([said, chunk]);
      const at = said.indexOf(LINKED);
      if (at < 0) {
        const failed = /@mt failed (.*)\n/.exec(String(said));
        if (failed) inform(`${host.name}: ${failed[1]}`);
        said = said.subarray(-4096);
        return;
      }
      clearTimeout(late);
      child.stdout.removeListener("data", look);
      // SIGKILL, whatever state ssh is in: the next ssh to this host waits for its end.
      const wire = streamWire(child.stdout, child.stdin, () => child.kill("SIGKILL"));
      accept(wire, host.name);
      const rest = said.subarray(at + LINKED.length);
      if (rest.length > 0) child.stdout.emit("data", rest);
    });
  }
}

/** The agent's end: its own stdin and stdout, which make one wire; `over` is called when it has ended. */
export function stdioTransport(over: () => void): Transport {
  let wire: Wire | undefined = streamWire(process.stdin, stdoutStream(), over);
  return {
    listen: async () => {},
    async dial() {
      const only = wire;
      wire = undefined;
      return only ? ok(only) : err("its ssh has ended");
    },
  };
}
