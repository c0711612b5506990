import type { Client } from './client.ts';
import type { FuseMount } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';
import { ioctlProgram32, openProgram32, type Ioctl32 } from './program-32.ts';

interface Caller {
  readonly guest: TestGuest;
  readonly client: Client;
  readonly fuse: FuseMount;
}

/** What an ioctl of a 32-bit program returns: an id or 0, or a negative errno. */
export async function ioctl32(
  { guest, client, fuse }: Caller,
  request: number,
  arg: Uint8Array,
  how: Pick<Ioctl32, 'open' | 'argAtPageEnd'> = {},
): Promise<number> {
  const { deviceFd, pid } = await fuse.server.call('server.info', {});
  return returned(
    await run(guest, client, ioctlProgram32({ pid, deviceFd: deviceFd ?? -1, request, arg, ...how })),
  );
}

/** The same of an ioctl on what a process has open. */
export async function ioctlOn32(
  guest: TestGuest,
  client: Client,
  { pid, fd }: { readonly pid: number; readonly fd: number },
  { request, arg }: { readonly request: number; readonly arg: Uint8Array },
): Promise<number> {
  return returned(await run(guest, client, ioctlProgram32({ pid, deviceFd: fd, request, arg })));
}

/** What open(2) of a 32-bit program returns: a descriptor, or a negative errno. `flags`: numbers of i386. */
export async function open32(guest: TestGuest, client: Client, path: string, flags: number): Promise<number> {
  return returned(await run(guest, client, openProgram32(path, flags)));
}

function returned(code: number | null): number {
  if (code === null) throw new Error('the 32-bit program was ended by a signal');
  return code < 128 ? code : code - 256;
}

/** A program that is given nothing to work with ends with -EBADF. */
const NOTHING_DONE = 256 - 9;

/** Ends the test as skipped where the kernel runs no 32-bit programs. */
export async function needs32Bit(guest: TestGuest): Promise<void> {
  await using client = await guest.client();
  const program = ioctlProgram32({ pid: 0, deviceFd: -1, request: 0, arg: new Uint8Array() });
  // Where it cannot be executed, execvp(3) tries it as a script.
  const runs = (await run(guest, client, program)) === NOTHING_DONE;
  guest.needsBuilt(runs, '32-bit programs (CONFIG_IA32_EMULATION)');
}

async function run(guest: TestGuest, client: Client, program: Uint8Array): Promise<number | null> {
  const path = `${await guest.directory('area', 'program')}/ioctl`;
  await client.writeFile({ path, data: program, mode: 0o755 });
  return (await guest.tryRun([path])).code;
}
