import { SyscallError, type Client, type FileHandle } from './client.ts';
import type { TestGuest } from './guest.ts';
import { fill } from './layers.ts';
import { upperOn } from './stack.ts';
import type { StackedMount } from './stacked-mount.ts';

/** Options with which an overlay that has an upper layer gives handles that files can be opened by. */
export const WITH_HANDLES = 'index=on,nfs_export=on,redirect_dir=on';

/** The errno of opening by a handle, or the path within the mount that it leads to. */
export async function whereTo(client: Client, mount: string, handle: FileHandle): Promise<string> {
  const mountFd = await client.open({ path: mount, flags: 'O_RDONLY|O_DIRECTORY' });
  try {
    const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' });
    const found = await client.readlink({ path: `/proc/self/fd/${fd}` });
    await client.close({ fd });
    return found.replace(mount, '');
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  } finally {
    await client.close({ fd: mountFd });
  }
}

/** A lower layer on ext4 with directories and files, an upper one, and the overlay, mounted anew at each call. */
interface HandleLayers {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly mount: (options?: string) => Promise<StackedMount>;
}

export async function handleLayers(guest: TestGuest, client: Client): Promise<HandleLayers> {
  const lower = await guest.directory('ext4', 'lower');
  await fill(client, lower, ['d/', 'd/s/', 'd/s/f', 'd/t/', 'f', 'other']);
  const { upper, work } = await upperOn(guest);
  const mount = (options?: string) => guest.mountOverlay({ lower, upper, work, options }, client);
  return { lower, upper, work, mount };
}
