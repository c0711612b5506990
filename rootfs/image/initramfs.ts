import { readFile, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { cpioArchive, type CpioEntry } from './cpio.ts';

/** Where the early init looks for this run's keys; see rootfs/init/early-init. */
const KEYS = 'keys';

/** The part of the initramfs that is the same for every machine: busybox and the early init. */
export function baseInitramfs(busybox: Uint8Array, earlyInit: Uint8Array): Uint8Array {
  const directories = ['bin', 'dev', KEYS, 'newroot', 'proc', 'sys'];
  return gzipSync(
    cpioArchive([
      ...directories.map((path): CpioEntry => ({ kind: 'directory', path, mode: 0o755 })),
      // The kernel opens it for init's standard output before anything is mounted.
      { kind: 'character-device', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
      { kind: 'file', path: 'bin/busybox', mode: 0o755, content: busybox },
      { kind: 'symlink', path: 'bin/sh', target: 'busybox' },
      { kind: 'file', path: 'init', mode: 0o755, content: earlyInit },
    ]),
    { level: 6 },
  );
}

export interface GuestKeys {
  /** OpenSSH private key that the guest's sshd shows. */
  readonly hostPrivateKey: string;
  /** One line of authorized_keys(5). */
  readonly authorizedKey: string;
}

/** The base and, after it, this machine's keys as a second archive: the kernel unpacks one after the other. */
export async function writeMachineInitramfs(base: string, keys: GuestKeys, target: string): Promise<void> {
  const file = (name: string, text: string): CpioEntry => ({
    kind: 'file',
    path: `${KEYS}/${name}`,
    mode: 0o600,
    content: Buffer.from(text),
  });
  const own = cpioArchive([
    { kind: 'directory', path: KEYS, mode: 0o700 },
    file('ssh_host_ed25519_key', keys.hostPrivateKey),
    file('authorized_keys', `${keys.authorizedKey}\n`),
  ]);
  const first = await readFile(base);
  const gap = Buffer.alloc((4 - (first.byteLength % 4)) % 4);
  await writeFile(target, Buffer.concat([first, gap, own]), { mode: 0o600 });
}
