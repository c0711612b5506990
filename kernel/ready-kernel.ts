import { open } from 'node:fs/promises';
import { Failure } from '#runner/lib/failure.ts';
import { sha256OfFile } from '#runner/lib/hash-file.ts';
import { printable } from './series/printable.ts';

/** Setup header of the x86 boot protocol: Documentation/arch/x86/boot.rst. */
const header = { bytes: 0x230, bootFlag: 0x1fe, magic: 0x202, kernelVersion: 0x20e } as const;

/**
 * The release string of a bzImage; `undefined` when the header is that of no bzImage. The header's
 * kernel_version field is an offset into the setup code, less 0x200.
 */
export function bzImageRelease(image: Uint8Array): string | undefined {
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  if (bytes.length < header.bytes || bytes.readUInt16LE(header.bootFlag) !== 0xaa55) return undefined;
  if (bytes.toString('latin1', header.magic, header.magic + 4) !== 'HdrS') return undefined;
  const offset = bytes.readUInt16LE(header.kernelVersion);
  if (offset === 0) return 'unknown';
  const start = offset + 0x200;
  const end = bytes.indexOf(0, start);
  const text = bytes.toString('latin1', start, end === -1 ? start : Math.min(end, start + 256));
  return printable(text.split(' ')[0] ?? '') || 'unknown';
}

/** Setup code is at most 64 sectors of 512 bytes. */
const setupBytes = 65 * 512;

export interface ReadyKernel {
  readonly release: string;
  readonly imageSha256: string;
}

/** A kernel that the user built. @throws Failure E_KERNEL_NOT_BOOTABLE (user). */
export async function readyKernel(path: string): Promise<ReadyKernel> {
  const release = bzImageRelease(await firstBytes(path));
  if (release === undefined) throw notBootable(path, 'is not a bzImage');
  return { release, imageSha256: await sha256OfFile(path) };
}

async function firstBytes(path: string): Promise<Uint8Array> {
  try {
    await using file = await open(path, 'r');
    const buffer = Buffer.alloc(setupBytes);
    const { bytesRead } = await file.read(buffer, 0, setupBytes, 0);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    throw notBootable(path, 'cannot be read', cause);
  }
}

function notBootable(path: string, what: string, cause?: unknown): Failure {
  return new Failure('E_KERNEL_NOT_BOOTABLE', 'user', `the kernel ${path} ${what}`, {
    hint: 'name the arch/x86/boot/bzImage of a build; vmlinux, modules and packages do not boot',
    cause,
  });
}
