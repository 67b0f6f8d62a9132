/**
 * Writes an initramfs: a cpio archive in the "newc" format, the same bytes for the same entries.
 * Owner 0:0, time 0, inode numbers by order, names sorted; parent folders are added where missing.
 * Uncompressed on purpose: compression saves no boot time, costs the guest 2-4 MiB of touched
 * memory, and would make the bytes depend on the version of a compressor.
 * Reads, writes: nothing but memory.
 * Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
 */

export type InitramfsEntry =
  | { type: "file"; path: string; mode: number; data: Buffer }
  | { type: "directory"; path: string; mode: number }
  | { type: "symlink"; path: string; target: string }
  | { type: "character_device"; path: string; mode: number; major: number; minor: number };

const FILE_TYPE = { file: 0o100000, directory: 0o040000, symlink: 0o120000, character_device: 0o020000 };

/** The archive with these entries. @throws where a path is given twice */
export function writeInitramfs(entries: InitramfsEntry[]): Buffer {
  const by_path = new Map<string, InitramfsEntry>();
  for (const entry of entries) {
    if (by_path.has(entry.path)) throw new Error(`initramfs has ${entry.path} twice`);
    by_path.set(entry.path, entry);
  }
  for (const path of [...by_path.keys()]) {
    for (let parent = parentOf(path); parent !== ""; parent = parentOf(parent)) {
      if (!by_path.has(parent)) by_path.set(parent, { type: "directory", path: parent, mode: 0o755 });
    }
  }
  // A folder sorts before its files. By bytes, not by locale.
  const sorted = [...by_path.values()].sort((left, right) =>
    Buffer.compare(Buffer.from(left.path), Buffer.from(right.path)),
  );
  const parts: Buffer[] = [];
  for (const [index, entry] of sorted.entries()) appendMember(parts, entry, index + 1);
  appendMember(parts, { type: "file", path: "/TRAILER!!!", mode: 0, data: Buffer.alloc(0) }, 0);
  return Buffer.concat(parts);
}

function appendMember(parts: Buffer[], entry: InitramfsEntry, inode: number): void {
  const name = Buffer.from(`${entry.path.slice(1)}\0`);
  const data =
    entry.type === "file"
      ? entry.data
      : entry.type === "symlink"
        ? Buffer.from(entry.target)
        : Buffer.alloc(0);
  const device = entry.type === "character_device" ? entry : { major: 0, minor: 0 };
  const mode = inode === 0 ? 0 : FILE_TYPE[entry.type] | (entry.type === "symlink" ? 0o777 : entry.mode);
  const links = entry.type === "directory" ? 2 : 1;
  // inode, mode, uid, gid, links, mtime, size, device, device of a node, name size, checksum
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, device.major, device.minor, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  parts.push(header, name, padding(header.length + name.length), data, padding(data.length));
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((4 - (bytes % 4)) % 4);
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}
