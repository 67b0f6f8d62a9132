/** Wires between hosts: TLS 1.3 on one port; both ends have a certificate of the tree's own authority. */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import { err, ok, type Result } from "neverthrow";
import { dnsName, type Identity, passHolds } from "./authority.ts";
import { Strangers } from "./strangers.ts";
import type { Place } from "./wire.ts";
import { socketWire, type Transport, type Wire } from "./wire.ts";

export function tlsTransport({ ca, cert, key }: Identity): Transport {
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

    dial(to: Place, timeout_ms: number): Promise<Result<Wire, string>> {
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
        const nobody = (e?: NodeJS.ErrnoException) => {
          clearTimeout(late);
          socket.removeListener("error", nobody);
          socket.on("error", () => {}).destroy();
          resolve(err(e ? (e.code ?? e.message) : `no answer in ${timeout_ms / 1000} s`));
        };
        const late = setTimeout(nobody, timeout_ms);
        socket.once("error", nobody);
        socket.once("secureConnect", () => {
          clearTimeout(late);
          socket.removeListener("error", nobody);
          resolve(ok(socketWire(socket)));
        });
      });
    },
  };
}

/** The name in a peer's certificate; "", which no node has, where there is none. */
function peerName(socket: TLSSocket): string {
  const name: unknown = socket.getPeerCertificate()?.subject?.CN;
  return typeof name === "string" ? name : "";
}
