import type { Client } from './client.ts';
import { eventually } from './eventually.ts';
import type { FuseMount, FuseOptions } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';

/** A mount whose device somebody else has as well, who reads requests and answers them by hand. */
export interface LentDevice {
  readonly fuse: FuseMount;
  readonly client: Client;
  /** In the place of the server, which is gone when `takeOver` is done. */
  readonly server: Client;
  readonly device: number;
  readonly takeOver: () => Promise<unknown>;
}

/** @param stack what is made is disposed of with it */
export async function lendDevice(
  guest: TestGuest,
  stack: AsyncDisposableStack,
  options: FuseOptions = {},
): Promise<LentDevice> {
  const fuse = stack.use(await guest.mountFuse(options));
  const client = stack.use(await guest.client());
  const server = stack.use(await guest.client());
  const device = await fuse.server.lendDevice(server);
  return { fuse, client, server, device, takeOver: () => fuse.server.kill('SIGKILL') };
}

/** What poll(2) says of the device once that is what is waited for, or at last. */
export function polled({ server, device }: LentDevice, events: string): Promise<string> {
  return eventually(
    () => server.poll({ fd: device }),
    (seen) => seen === events,
  );
}
