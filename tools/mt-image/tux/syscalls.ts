/**
 * /sbin/mt-syscalls PORT, a program of some 160 bytes of x86-64 code: reads frames from a virtio-serial port,
 * makes the system calls in each, and sends the frame back with their results. A guest gets its identity by it without
 * a fork or an exec, which are expensive in a fresh clone under translation (SPECIFICATION.md).
 * The frame is described in shared/guest-protocol.ts.
 * Until the host has opened its side of the port it looks every 2 s. It ends when it reads something that is not a
 * frame; init starts it again.
 */
import { FRAME } from "../../../shared/guest-protocol.ts";

const CODE_ADDRESS = 0x400000;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;

/** Bytes of a number in the code, little-endian. */
function hex(value: number, bytes: 1 | 4): string {
  const number = Buffer.alloc(bytes);
  number.writeUIntLE(value, 0, bytes);
  return number.toString("hex");
}
const ADDRESS = hex(FRAME.address, 4);
const LENGTH = hex(FRAME.bytes, 4);
const MAGIC = Buffer.from(FRAME.magic).toString("hex");

/** r13: the port; ebp: bytes of the frame read so far; rbx: the current call. */
const CODE = [
  "48 8b 7c 24 10", // mov rdi, [rsp+0x10]: argv[1]
  "be 02 00 00 00", // mov esi, 0x2: O_RDWR
  "89 f0", // mov eax, esi: open
  "0f 05", // syscall
  "85 c0", // test eax, eax
  "0f 88 81 00 00 00", // js end
  "41 89 c5", // mov r13d, eax
  "31 ed", // frame: xor ebp, ebp
  "31 c0", // fill: xor eax, eax: read
  "44 89 ef", // mov edi, r13d
  `8d b5 ${ADDRESS}`, // lea esi, [rbp+address]
  `ba ${LENGTH}`, // mov edx, length
  "29 ea", // sub edx, ebp
  "0f 05", // syscall
  "85 c0", // test eax, eax
  "7e 50", // jle alone: the other side has gone
  "01 c5", // add ebp, eax
  `81 fd ${LENGTH}`, // cmp ebp, length
  "72 de", // jb fill
  `bb ${ADDRESS}`, // mov ebx, address
  `81 3b ${MAGIC}`, // cmp dword [rbx], magic
  "75 4d", // jne end
  `48 83 c3 ${hex(FRAME.header_bytes, 1)}`, // add rbx, header
  "48 8b 03", // call: mov rax, [rbx]: its number
  "48 85 c0", // test rax, rax
  "78 17", // js answer: -1: it was the last
  "48 8b 7b 08", // mov rdi, [rbx+0x8]: its arguments
  "48 8b 73 10", // mov rsi, [rbx+0x10]
  "48 8b 53 18", // mov rdx, [rbx+0x18]
  "0f 05", // syscall
  "48 89 03", // mov [rbx], rax: its result
  `48 83 c3 ${hex(FRAME.call_bytes, 1)}`, // add rbx, length of a call
  "eb e1", // jmp call
  "b8 01 00 00 00", // answer: mov eax, 0x1: write
  "44 89 ef", // mov edi, r13d
  `be ${ADDRESS}`, // mov esi, address
  `ba ${LENGTH}`, // mov edx, length
  "0f 05", // syscall
  "eb 96", // jmp frame
  "6a 00", // alone: push 0x0
  "6a 02", // push 0x2: for 2 s
  "48 89 e7", // mov rdi, rsp
  "31 f6", // xor esi, esi
  "b8 23 00 00 00", // mov eax, 0x23: nanosleep
  "0f 05", // syscall
  "58", // pop rax
  "58", // pop rax
  "eb 82", // jmp frame
  "bf 01 00 00 00", // end: mov edi, 0x1
  "b8 e7 00 00 00", // mov eax, 0xe7: exit_group
  "0f 05", // syscall
];

/** The program as an ELF file: static, one segment of code, one for the frame. */
export function syscallsProgram(): Buffer {
  const code = Buffer.from(CODE.join("").replaceAll(" ", ""), "hex");
  const headers = Buffer.alloc(ELF_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES);
  const file_bytes = headers.length + code.length;
  headers.write("\x7fELF\x02\x01\x01", "latin1");
  headers.writeUInt16LE(2, 16); // an executable
  headers.writeUInt16LE(62, 18); // of x86-64
  headers.writeUInt32LE(1, 20);
  headers.writeBigUInt64LE(BigInt(CODE_ADDRESS + headers.length), 24); // its entry
  headers.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // its program headers
  headers.writeUInt16LE(ELF_HEADER_BYTES, 52);
  headers.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  headers.writeUInt16LE(2, 56);
  const segment = (at: number, flags: number, address: number, in_file: number, in_memory: number) => {
    headers.writeUInt32LE(1, at); // to be loaded
    headers.writeUInt32LE(flags, at + 4);
    for (const [i, field] of [0, address, address, in_file, in_memory, 4096].entries())
      headers.writeBigUInt64LE(BigInt(field), at + 8 + 8 * i);
  };
  segment(ELF_HEADER_BYTES, 5, CODE_ADDRESS, file_bytes, file_bytes);
  segment(ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES, 6, FRAME.address, 0, FRAME.bytes);
  return Buffer.concat([headers, code]);
}
