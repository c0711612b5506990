import { open } from 'node:fs/promises';
import { Failure } from '#runner/lib/failure.ts';

/**
 * Checks that a file is an x86 bzImage before QEMU is asked to start it, as QEMU would only say that it could
 * not load it, or nothing at all. Header fields: Documentation/arch/x86/boot.rst.
 *
 * @throws Failure E_NOT_A_KERNEL (user)
 */
export async function checkBootable(path: string): Promise<void> {
  const header = await readStart(path, 0x206).catch((cause: unknown) => {
    throw new Failure('E_NOT_A_KERNEL', 'user', `the kernel ${path} cannot be read`, {
      hint: '--kernel wants a bzImage, as in arch/x86/boot/bzImage of a built tree',
      cause,
    });
  });
  const bootFlag = header.byteLength >= 0x206 && header.readUInt16LE(0x1fe) === 0xaa55;
  if (bootFlag && header.toString('latin1', 0x202, 0x206) === 'HdrS') return;
  const isElf = header.toString('latin1', 0, 4) === '\u007fELF';
  throw new Failure('E_NOT_A_KERNEL', 'user', `${path} is not an x86 bzImage`, {
    hint: isElf
      ? 'this is an ELF file, perhaps vmlinux; use arch/x86/boot/bzImage of the same tree'
      : '--kernel wants a bzImage, as in arch/x86/boot/bzImage of a built tree',
  });
}

async function readStart(path: string, length: number): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await file.read(buffer, 0, length, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
