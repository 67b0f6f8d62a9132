/**
 * Every name that MegaTux gives to something in the kernel or the file system, as a function of (host, experiment, id):
 * with the plan alone, whatever was made can be found again.
 * Links have 15 characters at most: a letter and 60 bits of a digest; the link's alias has the whole name.
 * Paths of sockets have 107 bytes at most, so directories shorten long ids.
 */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { homedir, hostname } from "node:os";
import { join, resolve } from "node:path";
import { ok, type Result } from "neverthrow";
import { fail, type MtError, MtFailure, mtError } from "../errors.ts";

const isRoot = () => process.getuid?.() === 0;

/** The directory of what need not survive a reboot (sockets, pids): MT_RUN. */
export function runDir(): string {
  if (process.env.MT_RUN) return resolve(process.env.MT_RUN);
  if (isRoot()) return "/run/megatux";
  if (process.env.XDG_RUNTIME_DIR) return join(process.env.XDG_RUNTIME_DIR, "megatux");
  return userRunDir();
}

/**
 * For a user without XDG_RUNTIME_DIR: logind's directory, else one below the home, with the machine's name in it as
 * several may share the home. Nobody else can have made either. Without a home it is a name in /tmp; own-place.ts
 * refuses it if it is another user's.
 */
function userRunDir(): string {
  const uid = process.getuid?.();
  const logind = `/run/user/${uid}`;
  if (statSync(logind, { throwIfNoEntry: false })?.uid === uid) return join(logind, "megatux");
  const home = homeDir();
  if (home !== undefined && statSync(home, { throwIfNoEntry: false })?.uid === uid)
    return join(stateHome(), "megatux", `run-${hostname()}`);
  return `/tmp/run-${uid}/megatux`;
}

/** The directory of what stays (images, history): MT_STATE. */
export function stateDir(): string {
  if (process.env.MT_STATE) return resolve(process.env.MT_STATE);
  if (isRoot()) return "/var/lib/megatux";
  return join(stateHome(), "megatux");
}

const stateHome = () => process.env.XDG_STATE_HOME || join(homeFor("MT_STATE"), ".local/state");

/** HOME, else the home of the user database; undefined for a user who is not in it. */
export function homeDir(): string | undefined {
  try {
    return homedir() || undefined;
  } catch {
    return undefined;
  }
}

function homeFor(variable: string): string {
  const home = homeDir();
  if (home !== undefined) return home;
  const who = `user ${process.getuid?.()} has no home, and HOME is not set`;
  throw new MtFailure(
    mtError("unavailable", `Cannot find a directory of our own: ${who}`, `set HOME, or ${variable}`),
  );
}

/** The directory of the machine-wide leases (MT_LEASES): the same for all hosts of this machine, whatever their MT_RUN. */
export const leaseDir = () => resolve(process.env.MT_LEASES ?? "/run/megatux-leases");

/** The holder of a lease: an experiment on a host, told apart by the host's MT_RUN. */
export const leaseHolder = (host: string, experiment: string) =>
  `${leaseHoldersOf(runDir())}${host}:${experiment}`;
/** How all holders of the host with this MT_RUN begin. */
export const leaseHoldersOf = (hostRunDir: string) => `${hostRunDir}:`;

/** The directory of what was measured of this machine, for all its hosts (MT_CACHE); it may be deleted at any time. */
export function cacheDir(): string {
  if (process.env.MT_CACHE) return resolve(process.env.MT_CACHE);
  if (isRoot()) return "/var/cache/megatux";
  return join(process.env.XDG_CACHE_HOME || join(homeFor("MT_CACHE"), ".cache"), "megatux");
}

/** A base-32 digest of the parts, of `characters` × 5 bits. */
function digest(parts: readonly (string | number)[], characters: number): string {
  const bytes = createHash("sha256").update(parts.join("\0")).digest();
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  let out = "";
  for (let i = 0; i < characters; i++) {
    const bit = i * 5;
    out += alphabet[(((bytes[bit >> 3]! << 8) | bytes[(bit >> 3) + 1]!) >> (11 - (bit & 7))) & 31];
  }
  return out;
}

/** An id as a directory name of 16 characters at most. */
export function shortName(id: string): string {
  return id.length <= 16 ? id : `${id.slice(0, 7)}~${digest([id], 8)}`;
}

/** A kernel link name. The letter says what it is: b bridge, x VXLAN, t tap, v a router's port. */
function link(letter: string, ...parts: (string | number)[]): string {
  return letter + digest(parts, 12);
}
export const bridgeName = (experiment: string, segment: string) => link("b", experiment, "segment", segment);
export const vxlanName = (experiment: string, segment: string) => link("x", experiment, "segment", segment);
export const tapName = (experiment: string, guest: string, nic: number) =>
  link("t", experiment, "guest", guest, nic);
/** The end of a router's port that stands on the segment's bridge; inside the router it is `eth<nic>`. */
export const routerPortName = (experiment: string, router: string, nic: number) =>
  link("v", experiment, "router", router, nic);
/** The alias of a link, which `ip link` shows. */
export const linkAlias = (experiment: string, kind: string, id: string, nic?: number) =>
  nic === undefined ? `mt:${experiment}:${kind}:${id}` : `mt:${experiment}:${kind}:${id}:${nic}`;

/** UDP ports of tunnels, one per experiment: below the kernel's ephemeral ports. */
export const TUNNEL_PORTS = { first: 20_000, count: 10_000 };
export const tunnelPort = (experiment: string) =>
  TUNNEL_PORTS.first +
  (createHash("sha256").update(experiment).digest().readUInt32BE(0) % TUNNEL_PORTS.count);

/** A host's name as part of a file name, which has 255 bytes at most. `~` occurs in no host's name. */
export const hostPart = (host: string) =>
  host.length <= 100 ? host : `${host.slice(0, 90)}~${digest([host], 9)}`;

/** The namespace of a host of `--via local`. */
export const hostNamespace = (host: string) => `mt-${hostPart(host)}`;
/** The network namespace of a router. `:` occurs in no id, so names are distinct. */
export const routerNamespace = (host: string, experiment: string, router: string) =>
  `mt:${hostPart(host)}:${experiment}:${router}`;
/** How the namespaces of all routers on this host begin (of one experiment, if given). */
export const routerNamespacePrefix = (host: string, experiment?: string) =>
  experiment === undefined ? `mt:${hostPart(host)}:` : `mt:${hostPart(host)}:${experiment}:`;

/** The experiment's directory on this host, under MT_RUN. */
export const experimentDir = (experiment: string) => join(runDir(), "experiments", shortName(experiment));
export const guestDir = (experiment: string, guest: string) =>
  join(experimentDir(experiment), "g", shortName(guest));
export const routerDir = (experiment: string, router: string) =>
  join(experimentDir(experiment), "r", shortName(router));
/** Disk overlays of an experiment's guests: they can be large, and survive a reboot of the host. */
export const disksDir = (experiment: string) => join(stateDir(), "disks", shortName(experiment));
export const supervisorSocket = (experiment: string) => join(experimentDir(experiment), "boot.sock");
/** The tree's directory: hosts and keys on the head, the agent's files on a node. */
export const treeDir = () => join(runDir(), "tree");
/** The tree's hosts and authority, from `mt-tree up` to `down`, even if the head died. */
export const treeFile = () => join(treeDir(), "tree.json");
export const treeSocket = () => join(treeDir(), "head.sock");

/** The memory cgroup of an experiment's guests on the host with this MT_RUN. */
export const guestCgroup = (experiment: string) => `mt-${digest([runDir(), experiment], 10)}`;

/** The store of files by digest on this host. */
export const storeDir = () => join(stateDir(), "store");
/** The path of a file in the store: `sha256:9c…` → …/store/sha256/9c…; `data` if it is no digest. */
export function storePath(fileDigest: string): Result<string, MtError> {
  const m = /^sha256:([0-9a-f]{64})$/.exec(fileDigest);
  if (!m)
    return fail(
      "data",
      `Cannot find file ${JSON.stringify(fileDigest.slice(0, 90))}: it is no sha256 digest`,
    );
  return ok(join(storeDir(), "sha256", m[1]!));
}
/** The `image` record that `mt-image build` wrote. */
export const imagePath = (image: string) => join(stateDir(), "images", `${image}.json`);

/** The namespace with the bridge that is the network of this MT_RUN's `--via local` cluster. */
export const clusterNamespace = () => `mt-net-${digest([runDir()], 6)}`;
/** MT_RUN and MT_STATE of a host of `--via local`. */
export const localRunDir = (host: string) => join(runDir(), "hosts", shortName(host));
export const localStateDir = (host: string) => join(stateDir(), "hosts", shortName(host));
