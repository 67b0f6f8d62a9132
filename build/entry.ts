/**
 * Makes a compiled binary begin with code of ours: `bun build/entry.ts BINARY`, called by make for each binary.
 *
 * Bun obeys variables of its environment before the first line of a tool runs: BUN_BE_BUN=1 makes a tool plain Bun,
 * BUN_OPTIONS gives it flags, BUN_JSC_*, NODE_* and MIMALLOC_* make it print or refuse to start. Where the working directory
 * was removed, or /proc is missing, it ends with a message of its own. No flag of `bun build` turns that off.
 *
 * So the entry address in the ELF header is changed to a few instructions in the gap before Bun's code. They overwrite
 * the first letter of such a variable by `?` (shared/host/process.ts restores it in what tools start, where the variable
 * is not Bun's), change to / where there is no working directory, end with 69 where there is no /proc, and jump to Bun's own
 * start. Nothing else of the file is changed. A file that does not look as expected is an error, so a new Bun fails the build
 * and not its users. A program for another processor stays as it is, with a message.
 */
import { readFileSync, writeFileSync } from "node:fs";

/**
 * x86-64, position independent. It may change all registers but rsp and rdx, and no memory but the variables.
 *
 *              mov  rax, [rsp]              argc; then argv, 0, the environment, 0
 *              lea  rsi, [rsp+rax*8+16]
 *   next:      mov  rdi, [rsi]
 *              add  rsi, 8
 *              test rdi, rdi
 *              jz   directory
 *              mov  eax, [rdi]
 *              cmp  eax, "BUN_";  je bun
 *              cmp  eax, "NODE";  je underscore
 *              cmp  eax, "JSC_";  je blind
 *              or   eax, 0x20202020         MIMALLOC_, in small or large letters
 *              cmp  eax, "mima";  jne next;  jmp blind
 *   underscore:cmp  byte [rdi+4], "_";  jne next;  jmp blind
 *   bun:       mov  eax, [rdi+4]            what our tools set for each other is kept:
 *              cmp  eax, "GC_T";  je next   BUN_GC_TIMER_DISABLE
 *              cmp  eax, "JSC_";  jne blind
 *              cmp  dword [rdi+8], "useJ";  jne blind
 *              cmp  dword [rdi+12], "IT=0";  jne blind
 *              cmp  byte [rdi+16], 0;  je next
 *   blind:     mov  byte [rdi], "?"
 *              jmp  next
 *   directory: mov  r8, rdx
 *              sub  rsp, 4096
 *              getcwd(rsp, 4096)
 *              add  rsp, 4096
 *              cmp  rax, -ENOENT;  jne proc
 *              chdir("/")
 *   proc:      access("/proc/self/exe", F_OK)
 *              mov  rdx, r8
 *              test eax, eax;  jns go
 *              write(2, "Cannot start: …");  exit_group(69)
 *   go:        jmp  Bun's own start         the four bytes after e9
 *              the texts
 */
const CODE = Buffer.from(
  "488b0424488d74c410488b3e4883c6084885ff745b8b073d42554e5f74243d4e4f444574153d4a53435f743f0d202020" +
    "203d6d696d6175d1eb31807f045f75c9eb298b47043d47435f5474bd3d4a53435f7518817f087573654a750f817f0c49" +
    "543d307506807f1000749ec6073feb994989d04881ec001000004889e7be00100000b84f0000000f054881c400100000" +
    "4883f8fe750eb850000000488d3d510000000f05b815000000488d3d3400000031f60f054c89c285c07924b801000000" +
    "bf02000000488d3529000000ba420000000f05b8e7000000bf450000000f05e9000000002f70726f632f73656c662f65" +
    "7865002f0043616e6e6f742073746172743a202f70726f63206973206e6f742074686572650a202068696e743a206d6f" +
    "756e74202d742070726f632070726f63202f70726f630a",
  "hex",
);
/** Where the jump to Bun's own start is, before the first text. */
const JUMP_AT = CODE.indexOf("e9000000002f", 0, "hex");
const AMD64 = 62;
const LOAD = 1;
const EXECUTABLE = 1;

interface Segment {
  flags: number;
  offset: number;
  address: number;
  bytes: number;
}

function segmentsOf(elf: Buffer): Segment[] {
  const at = Number(elf.readBigUInt64LE(32));
  const size = elf.readUInt16LE(54);
  return Array.from({ length: elf.readUInt16LE(56) }, (_, i) => elf.subarray(at + i * size))
    .filter((header) => header.readUInt32LE(0) === LOAD)
    .map((header) => ({
      flags: header.readUInt32LE(4),
      offset: Number(header.readBigUInt64LE(8)),
      address: Number(header.readBigUInt64LE(16)),
      bytes: Number(header.readBigUInt64LE(32)),
    }));
}

/** Where the gap is: the unused part, before the code, of the page in which the code begins. */
function gapBefore(elf: Buffer, code: Segment, segments: readonly Segment[]): number {
  const page = code.offset - (code.offset % 4096);
  const used = segments.filter((s) => s.offset < code.offset).map((s) => s.offset + s.bytes);
  const from = Math.ceil(Math.max(page, ...used) / 16) * 16;
  const gap = elf.subarray(from, code.offset);
  if (gap.length < CODE.length || gap.some((byte) => byte !== 0)) throw new Error(`no room before its code`);
  return from;
}

const isForAmd64 = (elf: Buffer) => elf.readUInt32BE(0) === 0x7f454c46 && elf.readUInt16LE(18) === AMD64;

function begin(elf: Buffer): void {
  const start = Number(elf.readBigUInt64LE(24));
  const segments = segmentsOf(elf);
  const code = segments.find((s) => start >= s.address && start < s.address + s.bytes);
  if (!code || !(code.flags & EXECUTABLE)) throw new Error("its start is in no code");
  const gap = gapBefore(elf, code, segments);
  const address = code.address - (code.offset - gap);
  CODE.copy(elf, gap);
  elf.writeInt32LE(start - (address + JUMP_AT + 5), gap + JUMP_AT + 1);
  elf.writeBigUInt64LE(BigInt(address), 24);
}

const path = process.argv[2] ?? "";
try {
  const elf = readFileSync(path);
  if (isForAmd64(elf)) {
    begin(elf);
    writeFileSync(path, elf);
  } else
    process.stderr.write(`${path} is not for x86-64: it obeys BUN_BE_BUN and BUN_OPTIONS of its caller\n`);
} catch (thrown) {
  process.stderr.write(`Cannot give ${path} its own start: ${(thrown as Error).message}\n`);
  process.exitCode = 1;
}
