import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { backingMap, DeviceIoctl, OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { ioctlProgram32 } from '../lib/program-32.ts';

const { BACKING_OPEN, BACKING_CLOSE } = DeviceIoctl;
const EPERM = 1;
const ENOENT = 2;
const EINVAL = 22;
const ENOTTY = 25;

interface Caller {
  readonly guest: TestGuest;
  readonly client: Client;
  readonly fuse: FuseMount;
}

/** What an ioctl of a 32-bit program returns: an id or 0, or a negative errno. */
async function ioctl32(
  { guest, client, fuse }: Caller,
  request: number,
  arg: Uint8Array,
  open?: string,
): Promise<number> {
  const { deviceFd, pid } = await fuse.server.call('server.info', {});
  const path = `${await guest.directory('area', 'program')}/ioctl`;
  const data = ioctlProgram32({ pid, deviceFd: deviceFd ?? -1, request, arg, open });
  await client.writeFile({ path, data, mode: 0o755 });
  const { code } = await guest.tryRun([path]);
  if (code === null) throw new Error('the 32-bit program was ended by a signal');
  return code < 128 ? code : code - 256;
}

function id32(id: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, id, true);
  return bytes;
}

guestTest('a 32-bit program registers, and its id is good for opens (B15)', async (t, guest) => {
  guest.needs(guest.expected.idsAreReusable, 'ids that last');
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });
  const caller = { guest, client, fuse };

  const id = await ioctl32(caller, BACKING_OPEN, backingMap(0), fuse.backing('f'));
  t.is(id, 1);
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.PASSTHROUGH, backingId: id }, 1);
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file');
  t.deepEqual(await fuse.dataRequests(), []);
  t.is(await ioctl32(caller, BACKING_CLOSE, id32(id)), 0);
  t.is(await fuse.server.closeBacking(id), 'ENOENT', 'it was closed');
});

guestTest('a 32-bit program gets the same errors as a 64-bit one (B15)', async (t, guest) => {
  guest.needs(guest.expected.idsAreReusable, 'ids that last');
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const caller = { guest, client, fuse };
  const file = fuse.backing('f');

  t.is(await ioctl32(caller, BACKING_OPEN, backingMap(0, 1), file), -EINVAL, 'flags set');
  t.is(await ioctl32(caller, BACKING_OPEN, backingMap(0, 0, 1n << 32n), file), -EINVAL, 'padding set');
  t.is(await ioctl32(caller, BACKING_CLOSE, id32(0)), -EINVAL, 'id 0');
  t.is(await ioctl32(caller, BACKING_CLOSE, id32(7)), -ENOENT, 'unknown id');
  // The argument without its padding, as if the compiler had packed it.
  t.is(await ioctl32(caller, 0x400c_e501, backingMap(0), file), -ENOTTY, 'twelve bytes');
});

guestTest('a 32-bit program without negotiated passthrough is refused (B2, B15)', async (t, guest) => {
  guest.needs(guest.expected.hasClose, 'such negotiation');
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: { maxStackDepth: 0 } });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const caller = { guest, client, fuse };
  t.is(await ioctl32(caller, BACKING_OPEN, backingMap(0), fuse.backing('f')), -EPERM);
  t.is(await ioctl32(caller, BACKING_CLOSE, id32(1)), -EPERM);
});
