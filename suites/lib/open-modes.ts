import { OpenFlag } from '#rootfs/protocol/fuse.ts';
import type { OpenPatch } from '#rootfs/protocol/requests.ts';
import type { Client } from './client.ts';
import type { FuseMount } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';

/** How the server answers an open. `backing`: which registration passthrough answers name. */
export type OpenMode = 'cached' | 'keep-cache' | 'direct' | 'passthrough' | 'passthrough-direct';

const FLAGS: Readonly<Record<OpenMode, number>> = {
  cached: 0,
  'keep-cache': OpenFlag.KEEP_CACHE,
  direct: OpenFlag.DIRECT_IO,
  passthrough: OpenFlag.PASSTHROUGH,
  'passthrough-direct': OpenFlag.PASSTHROUGH | OpenFlag.DIRECT_IO,
};

/** The answer that puts an open into a mode; `id` counts in the passthrough modes. */
export function openAnswer(mode: OpenMode, id: number): OpenPatch {
  const passthrough = mode.startsWith('passthrough');
  return { openFlags: FLAGS[mode], backingId: passthrough ? id : 0 };
}

/**
 * Opens a file with the server's answer decided for this one open.
 * @throws SyscallError
 */
export async function openAs(
  client: Client,
  fuse: FuseMount,
  how: { readonly name: string; readonly mode: OpenMode; readonly id?: number; readonly flags?: string },
): Promise<number> {
  const { name, mode, id = 0, flags = 'O_RDWR' } = how;
  const takeBack = await fuse.answerOpen({ opcode: 'OPEN', path: `/${name}` }, openAnswer(mode, id), 1);
  try {
    return await client.open({ path: fuse.file(name), flags });
  } finally {
    await takeBack();
  }
}

/** A mount on which nothing is in passthrough mode by itself. The 2021 interface has no modes: skipped there. */
export async function mountWithModes(
  guest: TestGuest,
  options: Parameters<TestGuest['mountFuse']>[0] = {},
): Promise<FuseMount> {
  if (!guest.expected.hasIoModes) {
    guest.skip('this interface lets cached and passthrough opens of one file stand side by side, incoherent');
  }
  return guest.mountFuse({ passthrough: 'off', ...options });
}

/** Registers the file of that name. */
export function register(fuse: FuseMount, name: string): Promise<number> {
  return fuse.server.registerBacking({ path: fuse.backing(name), flags: 'O_RDWR' });
}
