/**
 * Gives a guest its identity: the system calls that set its name, MACs, addresses and routes, and then what its
 * kernel says of them. A guest is ready when the two agree. Clones of one memory image share everything until then;
 * what must differ besides is made anew in the same step (fresh.ts).
 */
import { err, ok, type Result } from "neverthrow";
import { formatIp, guestMac, parseCidr, parseIp } from "../../../../shared/addresses.ts";
import { fail, type MtError, mtError } from "../../../../shared/errors.ts";
import { NEXT_FD, SYSCALLS_PROGRAM } from "../../../../shared/guest-protocol.ts";
import type { Guest } from "../../../../shared/records/index.ts";
import { type Agent, runInGuest } from "../../guest/agent.ts";
import type { Call, Calls } from "../../guest/calls.ts";
import type { Ports } from "../platform.ts";
import { close, freshCalls, SYS, writeFile } from "./fresh.ts";

const SIOC = {
  addroute: 0x890b,
  delroute: 0x890c,
  setflags: 0x8914,
  getaddress: 0x8915,
  setaddress: 0x8916,
  getmask: 0x891b,
  setmask: 0x891c,
  getmtu: 0x8921,
  setmtu: 0x8922,
  setmac: 0x8924,
  getmac: 0x8927,
};
const AF_INET = 2;
const ARPHRD_ETHER = 1;
/** IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST */
const UP = 0x1043;
/** RTF_UP | RTF_GATEWAY */
const BY_GATEWAY = 3;

/** mt-syscalls answers as soon as the agent does: after so long it is asked whether the program is there at all. */
const EXPLAIN_AFTER_S = 10;

/** What the guest's kernel says of itself; filled by the calls. */
interface Said {
  uname: Buffer;
}

/** Calls for everything but the links. */
export function selfCalls(guest: Guest, said: Said): Call[] {
  const name = Buffer.from(guest.id);
  const hosts = guest.interfaces.flatMap((nic) => (nic.ip ? [`${nic.ip.split("/")[0]} ${guest.id}\n`] : []));
  return [
    ...freshCalls("told"),
    { what: "set its hostname", number: SYS.sethostname, args: [name, name.length] },
    ...writeFile("/etc/hostname", `${guest.id}\n`),
    ...writeFile("/etc/hosts", ["127.0.0.1 localhost\n", ...hosts].join("")),
    { what: "ask for its hostname", number: SYS.uname, args: [said.uname] },
  ];
}

const socketAddress = (address: number) => {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt32BE(address, 4);
  return bytes;
};

/** struct ifreq */
const interfaceRequest = (device: string, value: Buffer = Buffer.alloc(16)) => {
  const bytes = Buffer.alloc(40);
  bytes.write(device, "latin1");
  value.copy(bytes, 16);
  return bytes;
};

/** The pointer to the device's name in a struct rtentry, and where we put that name. */
const NAME = { at: 88, to: 120 };
/** struct rtentry of a default route, followed by the device's name that it points to. */
const defaultRoute = (device: string, gateway: number, flags: number, metric: number) => {
  const bytes = Buffer.alloc(136);
  for (const [at, address] of [
    [8, 0],
    [24, gateway],
    [40, 0],
  ] as const)
    socketAddress(address).copy(bytes, at);
  bytes.writeUInt16LE(flags, 56);
  bytes.writeInt16LE(metric, 80);
  bytes.write(device, 120, "latin1");
  return bytes;
};

const deviceRequest = (nic: number) => interfaceRequest(`eth${nic}`);

/** What the kernel says of a link afterwards; each is a struct ifreq. */
interface LinkSaid {
  mac: Buffer;
  address: Buffer;
  mask: Buffer;
  mtu: Buffer;
}

/** One call on a device: NEXT_FD is a socket. */
const ask = (
  what: string,
  device: string,
  request: number,
  bytes: Buffer,
  or?: Call["or"],
  points?: Call["points"],
): Call => ({
  what: `${what} ${device}`,
  number: SYS.ioctl,
  args: [NEXT_FD, request, bytes],
  ...(or === undefined ? {} : { or }),
  ...(points === undefined ? {} : { points }),
});

const openSocket = (device: string): Call => ({
  what: `configure ${device}`,
  number: SYS.socket,
  args: [AF_INET, 2, 0],
});

/** Sets the segment's MTU where the plan names one; otherwise the link keeps its own. */
function mtuCalls(guest: Guest, nic: number): Call[] {
  const { mtu } = guest.interfaces[nic]!;
  if (mtu === undefined) return [];
  const value = Buffer.alloc(16);
  value.writeInt32LE(mtu, 0);
  const device = `eth${nic}`;
  return [ask("set the MTU of", device, SIOC.setmtu, interfaceRequest(device, value))];
}

/** Calls for one link: MAC, MTU, address, gateway; then what the kernel says of them. */
export function linkCalls(guest: Guest, nic: number, said: LinkSaid): Result<Call[], MtError> {
  const { ip, gateway } = guest.interfaces[nic]!;
  const cidr = parseCidr(ip ?? "0.0.0.0/0");
  const hop = parseIp(gateway ?? "0.0.0.0");
  if (cidr.isErr()) return err(cidr.error);
  if (hop.isErr()) return err(hop.error);
  const device = `eth${nic}`;
  const mac = Buffer.alloc(16);
  mac.writeUInt16LE(ARPHRD_ETHER, 0);
  Buffer.from(guestMac(guest.index, nic).replaceAll(":", ""), "hex").copy(mac, 2);
  const up = Buffer.alloc(16);
  up.writeUInt16LE(UP, 0);
  const calls: Call[] = [
    openSocket(device),
    ask("set the MAC of", device, SIOC.setmac, interfaceRequest(device, mac)),
    ...mtuCalls(guest, nic),
    ask(
      "set the address of",
      device,
      SIOC.setaddress,
      interfaceRequest(device, socketAddress(cidr.value.address)),
    ),
  ];
  const mask = socketAddress(maskOf(cidr.value.length));
  if (ip !== undefined)
    calls.push(ask("set the netmask of", device, SIOC.setmask, interfaceRequest(device, mask)));
  calls.push(ask("bring up", device, SIOC.setflags, interfaceRequest(device, up)));
  if (gateway !== undefined) {
    // Where several links have a gateway the first is used; the metric field counts from 1 for metric 0.
    const metric = nic + 1;
    calls.push(
      ask(
        "take the old route from",
        device,
        SIOC.delroute,
        defaultRoute(device, 0, 1, metric),
        "ESRCH",
        NAME,
      ),
      ask(
        `route through ${gateway} on`,
        device,
        SIOC.addroute,
        defaultRoute(device, hop.value, BY_GATEWAY, metric),
        undefined,
        NAME,
      ),
    );
  }
  calls.push(
    ask("ask for the MAC of", device, SIOC.getmac, said.mac),
    ask("ask for the MTU of", device, SIOC.getmtu, said.mtu),
    ask("ask for the address of", device, SIOC.getaddress, said.address, "EADDRNOTAVAIL"),
    ask("ask for the netmask of", device, SIOC.getmask, said.mask, "EADDRNOTAVAIL"),
    close(),
  );
  return ok(calls);
}

const maskOf = (length: number) => 2 ** 32 - 2 ** (32 - length);

/** What the kernel must say: the name, and a line for each link: address or -, and the MTU where the plan has one. */
export function identityFacts(guest: Guest): string[] {
  return [
    `hostname ${guest.id}`,
    ...guest.interfaces.map(
      (nic, i) => `eth${i} ${guestMac(guest.index, i)} ${nic.ip ?? "-"}${mtuFact(nic.mtu)}`,
    ),
  ];
}

/** struct new_utsname: fields of 65 bytes, the second is the name. */
const hostnameFact = ({ uname }: Said) => `hostname ${uname.toString("latin1", 65, uname.indexOf(0, 65))}`;

const mtuFact = (mtu: number | undefined) => (mtu === undefined ? "" : ` mtu ${mtu}`);

function linkFact(nic: number, { mac, address, mask, mtu }: LinkSaid, planned: number | undefined): string {
  const hex = mac.toString("hex", 18, 24).match(/../g)!.join(":");
  const bits = mask.readUInt32BE(20).toString(2).replaceAll("0", "").length;
  const ip = address.readUInt32BE(20);
  const says = planned === undefined ? undefined : mtu.readInt32LE(16);
  return `eth${nic} ${hex} ${ip === 0 ? "-" : `${formatIp(ip)}/${bits}`}${mtuFact(says)}`;
}

/** Gives a guest its identity and checks what its kernel says then. May be done again. */
export async function giveIdentity(
  { agent, calls }: Ports,
  guest: Guest,
  timeout_s: number,
): Promise<Result<void, MtError>> {
  const end = Date.now() + timeout_s * 1000;
  const left_s = () => Math.max(0.1, (end - Date.now()) / 1000);
  const said: Said = { uname: Buffer.alloc(6 * 65) };
  const waits = await awaitCalls({ agent, calls }, timeout_s);
  if (waits.isErr()) return identityError(waits.error);
  const self = await calls.make(selfCalls(guest, said), left_s());
  if (self.isErr()) return identityError(self.error);
  const facts = [hostnameFact(said)];
  for (const [nic, { mtu }] of guest.interfaces.entries()) {
    const empty = () => deviceRequest(nic);
    const link = { mac: empty(), address: empty(), mask: empty(), mtu: empty() };
    const wanted = linkCalls(guest, nic, link);
    const made = wanted.isErr() ? wanted : await calls.make(wanted.value, left_s());
    if (made.isErr()) return identityError(made.error);
    facts.push(linkFact(nic, link, mtu));
  }
  return checkFacts(guest, facts);
}

/** Sets the MTUs again in a guest that has its identity: its segments may have others now. */
export async function tellMtus(
  calls: Calls,
  guest: Guest,
  timeout_s: number,
): Promise<Result<void, MtError>> {
  const end = Date.now() + timeout_s * 1000;
  for (const nic of guest.interfaces.keys()) {
    const mtu = mtuCalls(guest, nic);
    if (mtu.length === 0) continue;
    const left_s = Math.max(0.1, (end - Date.now()) / 1000);
    const done = await calls.make([openSocket(`eth${nic}`), ...mtu, close()], left_s);
    if (done.isErr()) return err(done.error);
  }
  return ok(undefined);
}

/** Waits until mt-syscalls answers. */
export async function awaitCalls({ agent, calls }: Ports, timeout_s: number): Promise<Result<void, MtError>> {
  const end = Date.now() + timeout_s * 1000;
  for (;;) {
    const left_s = Math.max(0.1, (end - Date.now()) / 1000);
    const made = await calls.make([], Math.min(left_s, EXPLAIN_AFTER_S));
    if (made.isOk()) return ok(undefined);
    if (made.error.code !== "timeout") return err(made.error);
    const why = await whySilent(agent);
    if (why !== undefined) return err(why);
    if (Date.now() >= end)
      return fail("timeout", `Cannot make system calls in the guest: no answer in ${timeout_s} s`);
  }
}

/** A guest is ready only where its kernel says what was asked for. */
export function checkFacts(guest: Guest, said: readonly string[]): Result<void, MtError> {
  const facts = identityFacts(guest);
  const wrong = facts.findIndex((fact, i) => said[i] !== fact);
  if (wrong < 0) return ok(undefined);
  return fail(
    "failed",
    `Cannot give {id} its identity: its kernel says ${JSON.stringify(said[wrong] ?? "nothing")}, asked for ${JSON.stringify(facts[wrong])}`,
  );
}

const identityError = (error: MtError): Result<void, MtError> =>
  err({
    ...error,
    message: `Cannot give {id} its identity: ${error.message.replace(/^Cannot /, "cannot ")}`,
  });

/** Why nothing answers: the agent tells whether the image has mt-syscalls at all. */
async function whySilent(agent: Agent): Promise<MtError | undefined> {
  const asked = await runInGuest(agent, ["test", "-e", SYSCALLS_PROGRAM], {
    timeout_s: 10,
    output_bytes_max: 1024,
  });
  if (asked.isErr() || asked.value.code !== 1) return undefined;
  return mtError(
    "unavailable",
    `Cannot find ${SYSCALLS_PROGRAM} in the guest: its image is older than this mt-boot`,
    "mt-image build tux, then write the plan again",
  );
}
