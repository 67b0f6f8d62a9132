/**
 * Every name that this project gives to something in the kernel or in the file system, as a function of
 * (host, experiment, id). The plan alone finds what it made: nothing has to be remembered.
 * Links: 15 characters at most, so a letter and 60 bits of a digest; their alias says the whole name.
 * Sockets: 107 bytes at most, so long ids are shortened in directories.
 */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { homedir, hostname } from "node:os";
import { join, resolve } from "node:path";
import { ok, type Result } from "neverthrow";
import { fail, type MtError, MtFailure, mtError } from "../errors.ts";

const isRoot = () => process.getuid?.() === 0;

/** What dies with the machine: sockets, pids, leases. */
export function runDir(): string {
  if (process.env.MT_RUN) return resolve(process.env.MT_RUN);
  if (isRoot()) return "/run/megatux";
  if (process.env.XDG_RUNTIME_DIR) return join(process.env.XDG_RUNTIME_DIR, "megatux");
  return userRunDir();
}

/**
 * Of a user whose login has set none: what logind makes, else below the user's own home, by the machine's name for
 * homes that several share: nothing that another could have made before. Who has no home has a name in /tmp, and is
 * told where another has it already.
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

/** What stays: images and history. */
export function stateDir(): string {
  if (process.env.MT_STATE) return resolve(process.env.MT_STATE);
  if (isRoot()) return "/var/lib/megatux";
  return join(stateHome(), "megatux");
}

const stateHome = () => process.env.XDG_STATE_HOME || join(homeFor("MT_STATE"), ".local/state");

/** HOME, else what the system's list of users says; undefined for who is not on it. */
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

/** Where the machine-wide leases are kept: one place for all hosts of this machine, whatever their MT_RUN. */
export const leaseDir = () => resolve(process.env.MT_LEASES ?? "/run/megatux-leases");

/** Who holds a share of what the kernel has once: an experiment on a host, known by the host's own MT_RUN. */
export const leaseHolder = (host: string, experiment: string) =>
  `${leaseHoldersOf(runDir())}${host}:${experiment}`;
/** What all shares of the host with this MT_RUN begin with. */
export const leaseHoldersOf = (hostRunDir: string) => `${hostRunDir}:`;

/** What the machine is found to be, for all its hosts; it may go at any time and is then found again. */
export function cacheDir(): string {
  if (process.env.MT_CACHE) return resolve(process.env.MT_CACHE);
  if (isRoot()) return "/var/cache/megatux";
  return join(process.env.XDG_CACHE_HOME || join(homeFor("MT_CACHE"), ".cache"), "megatux");
}

/** The base-32 digest of the parts, which cannot run into each other. */
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
/** What `ip link` shows as the alias of a link, for people. */
export const linkAlias = (experiment: string, kind: string, id: string, nic?: number) =>
  nic === undefined ? `mt:${experiment}:${kind}:${id}` : `mt:${experiment}:${kind}:${id}:${nic}`;

/** The UDP ports of tunnels, an experiment one: below those that kernels give out themselves. */
export const TUNNEL_PORTS = { first: 20_000, count: 10_000 };
export const tunnelPort = (experiment: string) =>
  TUNNEL_PORTS.first +
  (createHash("sha256").update(experiment).digest().readUInt32BE(0) % TUNNEL_PORTS.count);

/** A host's name as a part of a file's name, which 255 bytes have to hold; `~` stands in no name. */
export const hostPart = (host: string) =>
  host.length <= 100 ? host : `${host.slice(0, 90)}~${digest([host], 9)}`;

/** The namespace of a host of `--via local`. */
export const hostNamespace = (host: string) => `mt-${hostPart(host)}`;
/** The namespace of a router. `:` stands in no id, so two names never meet. */
export const routerNamespace = (host: string, experiment: string, router: string) =>
  `mt:${hostPart(host)}:${experiment}:${router}`;
/** What the namespaces of all routers of an experiment on this host begin with. */
export const routerNamespacePrefix = (host: string, experiment?: string) =>
  experiment === undefined ? `mt:${hostPart(host)}:` : `mt:${hostPart(host)}:${experiment}:`;

/** All that an experiment has on this host under MT_RUN. */
export const experimentDir = (experiment: string) => join(runDir(), "experiments", shortName(experiment));
export const guestDir = (experiment: string, guest: string) =>
  join(experimentDir(experiment), "g", shortName(guest));
export const routerDir = (experiment: string, router: string) =>
  join(experimentDir(experiment), "r", shortName(router));
/** What guests with disks have written: it can be large, and stays over a reboot of the host. */
export const disksDir = (experiment: string) => join(stateDir(), "disks", shortName(experiment));
export const supervisorSocket = (experiment: string) => join(experimentDir(experiment), "boot.sock");
/** The tree as this host knows it: on the head its hosts and keys, on a node its agent. */
export const treeDir = () => join(runDir(), "tree");
/** Its hosts and authority: there as long as a tree is to be there, whatever became of its head. */
export const treeFile = () => join(treeDir(), "tree.json");
export const treeSocket = () => join(treeDir(), "head.sock");

/** The memory cgroup of an experiment's guests on the host with this MT_RUN. */
export const guestCgroup = (experiment: string) => `mt-${digest([runDir(), experiment], 10)}`;

/** The store of files by digest on this host. */
export const storeDir = () => join(stateDir(), "store");
/** Where a file of the store is: `sha256:9c…` → …/store/sha256/9c…. */
export function storePath(fileDigest: string): Result<string, MtError> {
  const m = /^sha256:([0-9a-f]{64})$/.exec(fileDigest);
  if (!m)
    return fail(
      "data",
      `Cannot find file ${JSON.stringify(fileDigest.slice(0, 90))}: it is no sha256 digest`,
    );
  return ok(join(storeDir(), "sha256", m[1]!));
}
/** What `mt-image build` says of an image: one `image` record. */
export const imagePath = (image: string) => join(stateDir(), "images", `${image}.json`);

/** The namespace with the bridge that stands for the network of the cluster of `--via local` kept in this MT_RUN. */
export const clusterNamespace = () => `mt-net-${digest([runDir()], 6)}`;
/** MT_RUN and MT_STATE of a host of `--via local`. */
export const localRunDir = (host: string) => join(runDir(), "hosts", shortName(host));
export const localStateDir = (host: string) => join(stateDir(), "hosts", shortName(host));
