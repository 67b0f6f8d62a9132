/**
 * Who may join a tree: hostile peers against the compiled head and agents of a `--via local` tree. Strangers,
 * hosts that were taken over, an attacker in the middle of a link. Needs root and dist/mt-tree.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect as connectPlain, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { connect as connectTls, createServer as createTlsServer, type Server } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { waitFor } from "../../../shared/host/process.ts";
import {
  dnsName,
  type Identity,
  issue,
  issuePass,
  makeAuthority,
} from "../../../tools/mt-tree/link/authority.ts";
import { encodeFrame, FrameReader } from "../../../tools/mt-tree/link/frames.ts";
import { PROTOCOL } from "../../../tools/mt-tree/link/messages.ts";
import type { TreeFile } from "../../../tools/mt-tree/node/tree-file.ts";
import { expectRecords } from "../../support/records.ts";

const MT_TREE = resolve(import.meta.dirname, "../../../dist/mt-tree");
const GATEWAY = resolve(import.meta.dirname, "../../fixtures/gateway.mjs");
/** Two hosts under the head, the third under the first. */
const [ONE, TWO, THREE] = ["mtt-r1", "mtt-r2", "mtt-r3"] as const;
const MIB = 1024 * 1024;

describe.skipIf(process.getuid?.() !== 0)(
  "a tree and hostile peers (needs root)",
  { timeout: 120_000 },
  () => {
    const dir = mkdtempSync(join(tmpdir(), "mtt-r-"));
    const env = { ...process.env, MT_RUN: join(dir, "run"), MT_STATE: join(dir, "state") };
    const gateways: ChildProcess[] = [];
    let tree: TreeFile;
    let gates = 0;

    /** Asynchronous: links of the tree may lead through this process. */
    const mtTree = (...words: string[]) => {
      const child = spawn(MT_TREE, words, { env, stdio: ["ignore", "pipe", "inherit"], timeout: 40_000 });
      let out = "";
      child.stdout.on("data", (bytes) => {
        out += bytes;
      });
      return new Promise<{ code: number | null; records: ReturnType<typeof expectRecords> }>((r) =>
        child.on("close", (code) => r({ code, records: expectRecords(out) })),
      );
    };
    const nodeDir = (name: string) =>
      name === "head" ? join(dir, "run/tree") : join(dir, "run/hosts", name, "tree");
    const configFile = (name: string) => join(nodeDir(name), name === "head" ? "head.json" : "agent.json");
    const pidOf = (name: string) => Number(readFileSync(configFile(name).replace(/json$/, "pid"), "utf8"));
    const openFiles = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;
    const residentMib = (pid: number) =>
      Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
    const present = async () =>
      (await mtTree("status", "--records")).records.flatMap((r) => (r.state === "up" ? r.id : []));
    const addrOf = (name: string) =>
      name === "head" ? tree.head.addr : tree.hosts.find((h) => h.id === name)!.addr;

    async function gateway(netns: string, way: "in" | "out", path: string, addr: string, port: number) {
      const words = [
        `--net=/run/netns/${netns}`,
        "--",
        process.execPath,
        GATEWAY,
        way,
        path,
        addr,
        String(port),
      ];
      const child = spawn("nsenter", words, { stdio: ["ignore", "pipe", "inherit"] });
      gateways.push(child);
      await new Promise((r) => child.stdout!.once("data", r));
    }
    /** The unix socket that leads to a node's port, through the network namespace of the second host. */
    const ways = new Map<string, Promise<string>>();
    function wayTo(node: string): Promise<string> {
      const make = async () => {
        const path = join(dir, `way${++gates}`);
        await gateway(`mt-${TWO}`, "out", path, addrOf(node), tree.port);
        return path;
      };
      const way = ways.get(node) ?? make();
      ways.set(node, way);
      return way;
    }

    /** How a connection ended: what came on it, and after how many ms it was closed. */
    interface Talk {
      socket: Socket;
      heard: Record<string, unknown>[];
      secure: Promise<boolean>;
      over: Promise<number>;
    }
    async function talk(node: string, identity?: Partial<Identity>): Promise<Talk> {
      const socket = connectTls({
        ...identity,
        socket: connectPlain(await wayTo(node)),
        servername: dnsName(node === "head" ? tree.head.name : node),
        rejectUnauthorized: identity?.ca !== undefined,
      });
      const began = Date.now();
      const heard: Talk["heard"] = [];
      const reader = new FrameReader((header) => {
        heard.push(header);
        if (header.type === "ping") socket.write(encodeFrame({ ...header, type: "pong" }));
      });
      socket.on("data", (bytes) => reader.push(bytes));
      socket.on("error", () => {});
      const over = new Promise<number>((r) => socket.once("close", () => r(Date.now() - began)));
      const secure = new Promise<boolean>((r) => {
        socket.once("secureConnect", () => r(true));
        socket.once("close", () => r(false));
      });
      return { socket, heard, secure, over };
    }
    const presence = (host: string, more: object = {}) => ({
      host,
      epoch: "0123456789abcdef",
      join: 1,
      parent: tree.head.name,
      release: "0",
      ...more,
    });
    const hello = (...presences: unknown[]) =>
      encodeFrame({ type: "hello", protocol: PROTOCOL, release: "0", presences } as never);
    const within = <T>(promise: Promise<T>, ms: number) =>
      Promise.race([promise, new Promise<"late">((r) => setTimeout(() => r("late"), ms))]);
    const heardOf = (t: Talk, type: string) => t.heard.filter((m) => m.type === type);
    const welcomed = async (t: Talk) =>
      (await waitFor(() => (heardOf(t, "welcome").length > 0 ? true : undefined), 15)) === true;

    beforeAll(async () => {
      const up = await mtTree("up", "mtt-r[1-3]", "--via", "local", "--fanout", "2");
      expect(up.records.map((r) => [r.id, r.state])).toEqual([ONE, TWO, THREE].map((h) => [h, "up"]));
      tree = JSON.parse(readFileSync(join(dir, "run/tree/tree.json"), "utf8"));
    }, 60_000);
    afterAll(() => {
      for (const child of gateways) child.kill("SIGKILL");
      expect(spawnSync(MT_TREE, ["down"], { env, timeout: 40_000 }).status).toBe(0);
      rmSync(dir, { recursive: true, force: true });
    }, 60_000);

    describe("a stranger", () => {
      it("cannot join without a certificate, or with one that is not this authority's, or no longer good", async () => {
        const other = await makeAuthority("other");
        const right = await issue(tree.authority, "mtt-x");
        const self = { ca: right.ca, cert: other.cert, key: other.key };
        const kinds: [string, Partial<Identity>, boolean][] = [
          ["none", { ca: right.ca }, false],
          ["self-signed", self, false],
          ["another authority's, of the same name", { ...(await issue(other, ONE)), ca: right.ca }, false],
          ["expired", await issue(tree.authority, "mtt-x", -0.5), false],
          ["right", right, true],
        ];
        const said = await Promise.all(
          kinds.map(async ([kind, identity, good]) => {
            const t = await talk("head", identity);
            // A TLS 1.3 client believes that it is connected before it is refused.
            expect(await t.secure).toBe(true);
            t.socket.write(hello(presence("mtt-x")));
            const came = await Promise.race([welcomed(t), t.over.then(() => false)]);
            t.socket.destroy();
            return [kind, came, good];
          }),
        );
        expect(said).toEqual(kinds.map(([kind, , good]) => [kind, good, good]));
      });

      it("with a certificate is nobody else: a hello in another name ends the connection", async () => {
        const t = await talk("head", await issue(tree.authority, "mtt-x"));
        await t.secure;
        t.socket.write(hello(presence(TWO, { join: 1000 })));
        expect(await within(t.over, 3_000)).not.toBe("late");
        expect(heardOf(t, "welcome")).toEqual([]);
        expect((await mtTree("exec", TWO, "--", "echo", "it is I")).records[0]).toMatchObject({
          stdout: "it is I\n",
        });
      });

      it.concurrent("in a crowd that says nothing keeps nobody out, and is sent away in seconds", async () => {
        const pid = pidOf(ONE);
        const before = openFiles(pid);
        const way = await wayTo(ONE);
        const crowd = Array.from({ length: 1500 }, () => connectPlain(way).on("error", () => {}));
        const gone = crowd.map((s) => new Promise<void>((r) => s.once("close", () => r())));
        await Promise.all(crowd.map((s) => new Promise<void>((r) => s.once("connect", () => r()))));
        // Half a handshake gets no further than none.
        for (const s of crowd.slice(0, 100)) s.write(Buffer.from([0x16, 3, 1, 0, 200]));
        const most = () => (openFiles(pid) > before + 400 ? true : undefined);
        expect(await waitFor(most, 5)).toBe(true);
        const t = await talk(ONE, await issue(tree.authority, "mtt-x"));
        await t.secure;
        t.socket.write(hello(presence("mtt-x")));
        expect(await welcomed(t)).toBe(true);
        t.socket.destroy();
        expect(openFiles(pid)).toBeLessThan(before + 600);
        expect((await mtTree("exec", THREE, "--", "true")).code).toBe(0);
        expect(await within(Promise.all(gone), 9_000)).not.toBe("late");
        expect(await waitFor(() => (openFiles(pid) <= before + 2 ? true : undefined), 15)).toBe(true);
      });

      it.concurrent("with a certificate that says nothing, half a hello or none is sent away in seconds", async () => {
        const identity = await issue(tree.authority, "mtt-x");
        const begin = async (bytes: Buffer | undefined) => {
          const t = await talk(ONE, identity);
          await t.secure;
          if (bytes) t.socket.write(bytes);
          return within(t.over, 7_000);
        };
        const frame = hello(presence("mtt-x"));
        const half = frame.subarray(0, frame.length / 2);
        const list = encodeFrame({ type: "list" });
        expect(await Promise.all([undefined, half, list].map(begin))).not.toContain("late");
      });

      it("that talks anything but TLS is sent away at once", async () => {
        const way = await wayTo("head");
        for (const bytes of [
          "GET / HTTP/1.1\r\n\r\n",
          encodeFrame({ type: "hello" }),
          Buffer.alloc(20_000, 0x16),
        ]) {
          const socket = connectPlain(way).on("error", () => {});
          const over = new Promise<void>((r) => socket.once("close", () => r()));
          socket.resume().write(bytes);
          expect(await within(over, 2_000)).not.toBe("late");
        }
      });
    });

    describe("a host that was taken over", () => {
      /** Bytes that are no frame; each on a connection of its own, before the hello and after it. */
      const junk: Record<string, Buffer> = {
        "a frame of 1 GiB": head(1024 * MIB, 20, "{"),
        "a frame of no bytes": head(0, 0, ""),
        "a header longer than its frame": head(26, 900, '{"type":"pong","at":1}'),
        "a header that is no JSON": head(14, 10, "{{{{{{{{{{"),
        "a header that is no object": head(8, 4, "null"),
        "a header without a type": head(6, 2, "[]"),
        "brackets, a hundred thousand deep": head(100_004, 100_000, "[".repeat(100_000)),
        "a message whose parts are not what they should be": encodeFrame({
          type: "routes",
          add: 7,
          gone: {},
        } as never),
      };
      function head(length: number, header: number, text: string): Buffer {
        const lengths = Buffer.alloc(8);
        lengths.writeUInt32BE(length, 0);
        lengths.writeUInt32BE(header, 4);
        return Buffer.concat([lengths, Buffer.from(text)]);
      }

      it("sends what is no frame: its connection ends, memory stays, the agent serves", async () => {
        const pid = pidOf(ONE);
        const identity = await issue(tree.authority, "mtt-x");
        const before = residentMib(pid);
        for (const joined of [false, true])
          for (const [what, bytes] of Object.entries(junk)) {
            const t = await talk(ONE, identity);
            await t.secure;
            if (joined) {
              t.socket.write(hello(presence("mtt-x")));
              expect(await welcomed(t)).toBe(true);
            }
            t.socket.write(bytes);
            expect([what, joined, await within(t.over, 1_500)]).not.toContain("late");
          }
        expect(residentMib(pid)).toBeLessThan(before + 40);
        expect(pidOf(ONE)).toBe(pid);
        expect((await mtTree("exec", THREE, "--", "true")).code).toBe(0);
      });

      it("hides what cannot be told on in what it says of itself: nobody falls over it", async () => {
        const t = await talk(ONE, await issue(tree.authority, "mtt-x"));
        await t.secure;
        t.socket.write(hello(presence("mtt-x")));
        expect(await welcomed(t)).toBe(true);
        const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
        for (const key of ["more", "epoch", "release", "pass"]) {
          const told = JSON.stringify(presence("mtt-x", { join: 2, [key]: "DEEP" })).replace('"DEEP"', deep);
          const text = `{"type":"routes","add":[${told}],"gone":[${told}],"ended":[]}`;
          t.socket.write(head(4 + text.length, text.length, text));
        }
        t.socket.write(encodeFrame({ type: "ping", at: 1 } as never));
        expect(await waitFor(() => (heardOf(t, "pong").length > 0 ? true : undefined), 15)).toBe(true);
        t.socket.destroy();
        const pid = pidOf(ONE);
        expect((await mtTree("exec", THREE, "--", "true")).code).toBe(0);
        expect([pidOf(ONE), await present()]).toEqual([pid, [ONE, TWO, THREE]]);
      });

      it("gives no orders to those above it, and none that are not its to give", async () => {
        const file = join(dir, "ordered");
        const t = await talk("head", await issue(tree.authority, "mtt-x"));
        await t.secure;
        t.socket.write(hello(presence("mtt-x")));
        expect(await welcomed(t)).toBe(true);
        const order = {
          type: "run",
          session: "1",
          hosts: [ONE, TWO, "mtt-x"],
          argv: ["touch", file],
          env: {},
          stdin: false,
        };
        t.socket.write(encodeFrame(order));
        for (const type of ["list", "expect", "probe", "alive"])
          t.socket.write(encodeFrame({ type, session: "1", hosts: [ONE], reach: [], sessions: [] } as never));
        // Sent after them on the same link: its answer shows that they were read, though nobody answers them.
        t.socket.write(encodeFrame({ type: "ping", at: 1 } as never));
        expect(await waitFor(() => (heardOf(t, "pong").length > 0 ? true : undefined), 15)).toBe(true);
        expect((await mtTree("exec", "mtt-r[1-3]", "--", "test", "!", "-e", file)).code).toBe(0);
        expect(t.heard.map((m) => m.type).filter((type) => type !== "ping")).toEqual(["welcome", "pong"]);
        expect(await present()).toEqual([ONE, TWO, THREE]);
        t.socket.destroy();
      });

      it("takes no other host's place, whatever it signs and whomever it copies", async () => {
        const other = await makeAuthority("other");
        const pass = (name: string) => JSON.parse(readFileSync(configFile(name), "utf8")).pass;
        const newer = (host: string, more: object) =>
          presence(host, { epoch: "f".repeat(16), join: 1000, ...more });
        const claims = [
          newer(TWO, {}),
          newer(TWO, { pass: pass(TWO) }),
          newer(TWO, { pass: pass(THREE) }),
          newer(TWO, { pass: { ...pass(TWO), relays: ["mtt-x"] } }),
          newer(TWO, { pass: issuePass(other, TWO, ["mtt-x"]) }),
          newer(THREE, { pass: pass(THREE) }),
        ];
        const t = await talk("head", await issue(tree.authority, "mtt-x"));
        await t.secure;
        t.socket.write(hello(presence("mtt-x"), ...claims));
        expect(await welcomed(t)).toBe(true);
        t.socket.write(encodeFrame({ type: "routes", add: claims, gone: [], ended: [] } as never));
        t.socket.write(encodeFrame({ type: "routes", add: [], gone: claims, ended: [TWO, THREE] } as never));
        const { code, records } = await mtTree("exec", `${TWO},${THREE}`, "--", "sh", "-c", "echo $MT_HOST");
        expect([code, records.map((r) => r.stdout).sort()]).toEqual([0, [`${TWO}\n`, `${THREE}\n`]]);
        expect(heardOf(t, "run")).toEqual([]);
        // An ancestor may: it relays what is theirs, and the authority has said so.
        const above = await talk("head", await issue(tree.authority, ONE));
        await above.secure;
        above.socket.write(
          hello(presence(ONE, { epoch: "e".repeat(16) }), newer(THREE, { pass: pass(THREE) })),
        );
        expect(await welcomed(above)).toBe(true);
        const run = mtTree("exec", THREE, "--", "true");
        expect(await waitFor(() => heardOf(above, "run")[0], 3)).toMatchObject({ hosts: [THREE] });
        above.socket.destroy();
        t.socket.destroy();
        expect((await run).records[0]).toMatchObject({ id: THREE, state: "failed" });
        // It mends itself: the real hosts, which were there all the time, have their places again.
        const real = async () => {
          const { code, records } = await mtTree("exec", `${ONE},${THREE}`, "--", "sh", "-c", "echo $PPID");
          return code === 0 ? records.map((r) => Number(r.stdout)).sort() : undefined;
        };
        expect(await waitFor(real, 5)).toEqual([pidOf(ONE), pidOf(THREE)].sort());
        expect(readFileSync(join(nodeDir(ONE), "node.log"), "utf8")).toMatch(
          new RegExp(
            `Cannot join \\(head\\) at \\S+ as ${ONE}: another agent with this host's key is there .*\n.*Joined`,
          ),
        );
      });

      it("answers for no other host of a command that it takes part in itself", async () => {
        process.kill(pidOf(THREE), "SIGKILL");
        expect(await waitFor(async () => ((await present()).includes(THREE) ? undefined : true), 5)).toBe(
          true,
        );
        const t = await talk("head", await issue(tree.authority, THREE));
        await t.secure;
        t.socket.write(hello(presence(THREE, { epoch: "d".repeat(16) })));
        expect(await welcomed(t)).toBe(true);
        const run = mtTree("exec", `${TWO},${THREE}`, "--", "sh", "-c", "sleep 0.5; echo true");
        const { session } = (await waitFor(() => heardOf(t, "run")[0], 3)) as { session: string };
        for (const host of [TWO, THREE]) {
          t.socket.write(
            encodeFrame({ type: "output", session, host, offset: 0, fd: 1 } as never, Buffer.from("lies\n")),
          );
          t.socket.write(encodeFrame({ type: "exit", session, host, offset: 5, code: 0 } as never));
        }
        const told = (await run).records.map((r) => `${r.id} ${r.stdout}`).sort();
        expect(told).toEqual([`${TWO} true\n`, `${THREE} lies\n`]);
        t.socket.destroy();
        expect((await mtTree("up")).code).toBe(0);
      });
    });

    describe("somebody between two nodes", () => {
      it("reads nothing, changes nothing, and what was recorded is worth nothing", async () => {
        const port = 7999;
        /** Bytes of the last whole session, both ways. */
        let recorded: { up: Buffer[]; down: Buffer[] } = { up: [], down: [] };
        let flip: "up" | "down" | undefined;
        let replay: Buffer | undefined;
        let refused = 0;
        let impostor: Server | undefined;
        const broken: string[] = [];
        const links = new Set<Socket>();
        const middle = join(dir, "middle");
        const head = await wayTo("head");
        const server = createServer((agent) => {
          links.add(agent);
          agent.on("error", () => {}).on("close", () => links.delete(agent));
          if (impostor) return void impostor.emit("connection", agent);
          if (replay) {
            agent.write(replay);
            agent.once("close", () => refused++);
            return void agent.resume();
          }
          const session = (recorded = { up: [], down: [] } as typeof recorded);
          const far = connectPlain(head).on("error", () => {});
          const pass = (way: "up" | "down", from: Socket, to: Socket) =>
            from
              .on("data", (bytes) => {
                session[way].push(Buffer.from(bytes));
                // A command's frame, not a heartbeat's.
                if (flip === way && bytes.length > 100) {
                  flip = undefined;
                  broken.push(way);
                  bytes[bytes.length - 40]! ^= 1;
                }
                to.write(bytes);
              })
              .on("close", () => to.destroy());
          pass("up", agent, far);
          pass("down", far, agent);
        });
        await new Promise<void>((r) => server.listen(middle, r));
        try {
          await gateway(`mt-${TWO}`, "in", middle, addrOf(TWO), port);
          // The second host's agent as before, except that it finds the head at another address.
          const config = JSON.parse(readFileSync(configFile(TWO), "utf8"));
          process.kill(pidOf(TWO), "SIGKILL");
          expect(await waitFor(async () => ((await present()).includes(TWO) ? undefined : true), 5)).toBe(
            true,
          );
          config.ancestors[0] = { ...config.ancestors[0], addr: addrOf(TWO), port };
          writeFileSync(configFile(TWO), JSON.stringify(config), { mode: 0o600 });
          const words = [`--net=/run/netns/mt-${TWO}`, "--", MT_TREE, "agent", "--config", configFile(TWO)];
          gateways.push(spawn("nsenter", words, { env: { ...env, MT_HOST: TWO }, stdio: "ignore" }));
          const joined = async () => ((await present()).includes(TWO) ? true : undefined);
          expect(await waitFor(joined, 10)).toBe(true);

          const runs = join(dir, "runs");
          const ran = () => Number(spawnSync("sh", ["-c", `wc -l <${runs}`], { encoding: "utf8" }).stdout);
          const once = async () => {
            const { records } = await mtTree(
              "exec",
              TWO,
              "--",
              "sh",
              "-c",
              `echo ran >>${runs}; echo secret-answer; sleep 0.3`,
            );
            expect(records[0]).toMatchObject({ id: TWO, code: 0, stdout: "secret-answer\n" });
          };
          await once();
          const session = recorded;
          const seen = Buffer.concat([...session.up, ...session.down]).toString("latin1");
          expect(seen.length).toBeGreaterThan(2_000);
          expect(seen).not.toMatch(/secret-answer|mtt-r2|hello/);

          // A changed bit ends the link; over a new one the command runs once all the same, and all of its output comes.
          for (const way of ["down", "up"] as const) {
            flip = way;
            await once();
          }
          expect([ran(), broken]).toEqual([3, ["down", "up"]]);

          // The recording, sent to the head again: it reads no hello in it.
          const again = connectPlain(head).on("error", () => {});
          const over = new Promise<void>((r) => again.once("close", () => r()));
          again.resume().write(Buffer.concat(session.up));
          expect(await within(over, 3_000)).not.toBe("late");
          // And to the agent, in place of the head: it does not accept it, and runs nothing.
          replay = Buffer.concat(session.down);
          for (const link of links) link.destroy();
          expect(await waitFor(async () => ((await joined()) ? undefined : true), 5)).toBe(true);
          expect(await waitFor(() => (refused > 1 ? true : undefined), 15)).toBe(true);
          expect(await present()).toEqual([ONE, THREE]);
          replay = undefined;

          // A peer with a certificate of this authority under another name gets no message; under the head's name it would.
          for (const [name, trusted] of [
            ["mtt-x", false],
            [tree.head.name, true],
          ] as const) {
            let heard = false;
            let came = 0;
            impostor = createTlsServer(
              { ...(await issue(tree.authority, name)), minVersion: "TLSv1.3" },
              (s) =>
                s
                  .on("error", () => {})
                  .once("data", () => {
                    heard = true;
                  }),
            )
              .on("connection", () => came++)
              .on("tlsClientError", () => {});
            for (const link of links) link.destroy();
            expect(await waitFor(() => (trusted ? heard : came > 1) || undefined, 10)).toBe(true);
            expect(heard).toBe(trusted);
          }
          impostor = undefined;
          for (const link of links) link.destroy();
          expect(await waitFor(joined, 10)).toBe(true);
          expect(ran()).toBe(3);
        } finally {
          server.close();
          for (const link of links) link.destroy();
        }
      });
    });

    it("what is the owner's is nobody else's: sockets, keys, configurations", async () => {
      const mode = (path: string) => (statSync(join(dir, "run", path)).mode & 0o777).toString(8);
      const agent = `hosts/${ONE}/tree`;
      expect(["tree", agent].map(mode)).toEqual(["700", "700"]);
      expect(["tree/head.sock", "tree/tree.json", "tree/head.json", `${agent}/agent.json`].map(mode)).toEqual(
        Array(4).fill("600"),
      );
      // Also where everybody may enter the directories above.
      spawnSync("chmod", ["755", dir, join(dir, "run"), join(dir, "run/hosts"), join(dir, "run/hosts", ONE)]);
      const tries = `for (const f of process.argv.slice(1)) try { require("fs").readFileSync(f) } catch (e) { console.log(e.code) }
      require("net").connect(process.argv[1]).on("error", (e) => console.log(e.code)).on("connect", () => { console.log("in"); process.exit() })`;
      const files = ["tree/head.sock", "tree/tree.json", `${agent}/agent.json`].map((f) =>
        join(dir, "run", f),
      );
      const nobody = (as: string[]) =>
        spawnSync(as[0]!, [...as.slice(1), process.execPath, "-e", tries, ...files], { encoding: "utf8" })
          .stdout;
      expect(nobody(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])).toBe(
        "EACCES\n".repeat(4),
      );
      // As root the same program gets in.
      expect(nobody(["env"])).toMatch(/in\n$/);
    });
  },
);
