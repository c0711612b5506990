import { concat } from './bytes.ts';

/** Where the program is loaded; also what its addresses count from. */
const BASE = 0x0804_8000;
const HEADER_BYTES = 52 + 32;
/** `int 0x80`: the 32-bit way into the kernel. */
const CALL = [0xcd, 0x80];
const SYS = { exit: 1, open: 5, ioctl: 54, pidfd_open: 434, pidfd_getfd: 438 } as const;
const O_RDWR = 2;
const PAGE = 4096;

export interface Ioctl32 {
  /** Process that has the device, and its descriptor there. */
  readonly pid: number;
  readonly deviceFd: number;
  readonly request: number;
  /** The argument, at most 16 bytes. */
  readonly arg: Uint8Array;
  /** This file is opened, and its descriptor put into the first word of the argument. */
  readonly open?: string | undefined;
  /** The argument ends where the program's memory does: a kernel that reads more of it gets EFAULT. */
  readonly argAtPageEnd?: boolean | undefined;
}

/**
 * An i386 executable, to call the kernel as a 32-bit program does. It takes the device over from another process
 * and makes one ioctl(2); its exit status is the low byte of what that returned: -1 (EPERM) is 255.
 */
export function ioctlProgram32(how: Ioctl32): Uint8Array {
  const { pid, deviceFd, request, arg, open, argAtPageEnd = false } = how;
  const data = argAtPageEnd ? arg : Uint8Array.from({ length: 16 }, (_, at) => arg[at] ?? 0);
  const argAt = argAtPageEnd ? BASE + PAGE - data.length : BASE + HEADER_BYTES;
  const pathAt = BASE + HEADER_BYTES + (argAtPageEnd ? 0 : data.length);
  const path = new Uint8Array(Buffer.from(`${open ?? ''}\0`, 'utf8'));
  const code = [
    ...(open === undefined ? [] : [...eax(SYS.open), ...ebx(pathAt), ...ecx(O_RDWR), ...edx(0), ...CALL]),
    // mov [arg], eax
    ...(open === undefined ? [] : [0xa3, ...word(argAt)]),
    ...[...eax(SYS.pidfd_open), ...ebx(pid), ...ecx(0), ...CALL],
    ...[...EBX_FROM_EAX, ...eax(SYS.pidfd_getfd), ...ecx(deviceFd), ...edx(0), ...CALL],
    ...[...EBX_FROM_EAX, ...eax(SYS.ioctl), ...ecx(request), ...edx(argAt), ...CALL],
    ...[...EBX_FROM_EAX, ...eax(SYS.exit), ...CALL],
  ];
  const start = concat(...(argAtPageEnd ? [] : [data]), path);
  const body = concat(start, Uint8Array.from(code));
  const padding = new Uint8Array(argAtPageEnd ? PAGE - data.length - HEADER_BYTES - body.length : 0);
  const file = concat(body, padding, ...(argAtPageEnd ? [data] : []));
  return concat(elfHeader(BASE + HEADER_BYTES + start.length, HEADER_BYTES + file.length), file);
}

/**
 * An i386 executable that opens a file as it is told and nothing more: without O_LARGEFILE unless the flags have it.
 * Its exit status is the low byte of what open(2) returned.
 */
export function openProgram32(path: string, flags: number): Uint8Array {
  const name = new Uint8Array(Buffer.from(`${path}\0`, 'utf8'));
  const code = [
    ...[...eax(SYS.open), ...ebx(BASE + HEADER_BYTES), ...ecx(flags), ...edx(0o644), ...CALL],
    ...[...EBX_FROM_EAX, ...eax(SYS.exit), ...CALL],
  ];
  const body = concat(name, Uint8Array.from(code));
  return concat(elfHeader(BASE + HEADER_BYTES + name.length, HEADER_BYTES + body.length), body);
}

/** mov ebx, eax */
const EBX_FROM_EAX = [0x89, 0xc3];

function eax(value: number): number[] {
  return [0xb8, ...word(value)];
}

function ecx(value: number): number[] {
  return [0xb9, ...word(value)];
}

function edx(value: number): number[] {
  return [0xba, ...word(value)];
}

function ebx(value: number): number[] {
  return [0xbb, ...word(value)];
}

function word(value: number): number[] {
  return [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
}

function half(value: number): number[] {
  return word(value).slice(0, 2);
}

/** Elf32_Ehdr and one Elf32_Phdr that loads the whole file, readable, writable and executable. */
function elfHeader(entry: number, fileBytes: number): Uint8Array {
  const identity = [0x7f, 0x45, 0x4c, 0x46, 1, 1, 1, 0, ...Array<number>(8).fill(0)];
  const [executable, i386, version] = [2, 3, 1];
  const header = [
    ...[...identity, ...half(executable), ...half(i386), ...word(version), ...word(entry)],
    ...[...word(52), ...word(0), ...word(0)],
    ...[52, 32, 1, 0, 0, 0].flatMap(half),
  ];
  const [load, readWriteExecute, align] = [1, 7, 0x1000];
  const segment = [load, 0, BASE, BASE, fileBytes, fileBytes, readWriteExecute, align].flatMap(word);
  return Uint8Array.from([...header, ...segment]);
}
