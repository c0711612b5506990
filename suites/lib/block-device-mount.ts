import type { Client } from './client.ts';
import { u32 } from './entry-answer.ts';
import { initFlagBits, Opcode, type InitFlagName } from './fuse-abi.ts';
import type { TestGuest } from './guest.ts';
import { answerRequest, initBody, nextRequest } from './raw-server.ts';
import type { StackedMount } from './stacked-mount.ts';

/** What every mount has to say beside its device. */
export const NEEDED = 'rootmode=40000,user_id=0,group_id=0';
/** Offsets in `fuse_init_out`. */
const [FLAGS, FLAGS2] = [12, 32];

/** The machine's spare disk. Nothing is written to it. */
export async function blockDevice(guest: TestGuest): Promise<string> {
  guest.needsBuilt(await guest.hasFilesystem('fuseblk'), 'fuseblk');
  const { device } = await guest.lease.call('spare-disk.find', {});
  return device ?? guest.skip('this machine has no disk to spare');
}

interface OnDevice extends AsyncDisposable {
  readonly mount: StackedMount;
  /** A client that reads and answers requests. */
  readonly server: Client;
  readonly device: number;
}

export function openDevice(server: Client): Promise<number> {
  return server.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
}

/** Answers INIT. */
async function initialize(server: Client, device: number, flags: readonly InitFlagName[]): Promise<void> {
  const request = await nextRequest(server, device);
  if (request.opcode !== Opcode.INIT) throw new Error(`opcode ${request.opcode} in place of INIT`);
  const body = initBody(31);
  const bits = initFlagBits(flags);
  body.set(u32(Number(bits & 0xffff_ffffn)), FLAGS);
  body.set(u32(Number(bits >> 32n)), FLAGS2);
  await answerRequest(server, device, { unique: request.unique, body });
}

/** A block device mounted as `fuseblk`, or another kind of it, with further options; its server wants these features. */
export async function mountOn(
  guest: TestGuest,
  source: string,
  more = '',
  { type = 'fuseblk', flags = [] }: { readonly type?: string; readonly flags?: readonly InitFlagName[] } = {},
): Promise<OnDevice> {
  const server = await guest.client();
  const device = await openDevice(server);
  const mounter = await guest.client();
  const fd = await mounter.adoptFd({ pid: server.pid, fd: device });
  const options = `fd=${fd},${NEEDED}${more}`;
  const mount = await guest.mount({ source, type, options }, mounter);
  await mounter.close({ fd });
  await initialize(server, device, flags);
  return {
    mount,
    server,
    device,
    // Without a server nobody waits for an answer.
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await mount[Symbol.asyncDispose]();
      await mounter[Symbol.asyncDispose]();
    },
  };
}
