/** Wires between hosts: TLS 1.3 on one port, both ends with a certificate of the tree's own authority. */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import { inform } from "../../shared/cli/stderr.ts";
import { dnsName, type Identity, passHolds } from "./authority.ts";
import type { Place } from "./node.ts";
import { Strangers } from "./strangers.ts";
import { socketWire, type Transport, type Wire } from "./wire.ts";

export function tlsTransport({ ca, cert, key }: Identity): Transport {
  /** What was said last of why a node cannot be joined: once is enough. */
  const said = new Map<string, string>();
  const tell = ({ name, addr, port }: Place, why: string) => {
    if (said.get(name) === why) return;
    said.set(name, why);
    inform(`Cannot join ${name} at ${addr}:${port}: ${why}`);
  };
  const authority = new X509Certificate(ca).publicKey;
  return {
    passHolds: ({ host, pass }) => pass !== undefined && passHolds(authority, host, pass),

    async listen(self, accept) {
      const strangers = new Strangers();
      const server = createServer(
        { ca, cert, key, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" },
        (socket) => {
          strangers.known(socket);
          accept(socketWire(socket), peerName(socket));
        },
      );
      server.on("connection", (socket: Socket) => strangers.came(socket));
      server.on("tlsClientError", () => {});
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(self.port, self.addr, resolve);
      });
    },

    dial(to: Place, timeout_ms: number): Promise<Wire | undefined> {
      return new Promise((resolve) => {
        const socket = connect({
          host: to.addr,
          port: to.port,
          ca,
          cert,
          key,
          servername: dnsName(to.name),
          minVersion: "TLSv1.3",
        });
        const give = (wire: Wire | undefined) => {
          clearTimeout(late);
          socket.removeListener("error", nobody);
          if (!wire) socket.on("error", () => {}).destroy();
          resolve(wire);
        };
        const nobody = (e?: NodeJS.ErrnoException) => {
          tell(to, e ? (e.code ?? e.message) : `no answer in ${timeout_ms / 1000} s`);
          give(undefined);
        };
        const late = setTimeout(nobody, timeout_ms);
        socket.once("error", nobody);
        socket.once("secureConnect", () => {
          said.delete(to.name);
          give(socketWire(socket));
        });
      });
    },
  };
}

/** The name in a peer's certificate; "" is nobody's. */
function peerName(socket: TLSSocket): string {
  const name: unknown = socket.getPeerCertificate()?.subject?.CN;
  return typeof name === "string" ? name : "";
}
