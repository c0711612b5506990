import { text } from '../lib/bytes.ts';
import { backingMap } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ioctl32, needs32Bit } from '../lib/calls-32.ts';
import { needsSingleUseIds, openWithId } from '../lib/registration.ts';

/** FUSE_DEV_IOC_PASSTHROUGH_OPEN as a 32-bit program defines it: its pointer has four bytes. */
const PASSTHROUGH_OPEN_32 = 0x400c_e501;
const PASSTHROUGH_OPEN_64 = 0x4010_e501;
const EPERM = 1;
const EBADF = 9;
const EINVAL = 22;
const ENOTTY = 25;

/** `fd`, `len`, `vec`: the structure of a 32-bit program. */
function argument32(fd: number, length = 0, vec = 0): Uint8Array {
  return backingMap(fd, length, BigInt(vec)).subarray(0, 12);
}

guestTest('a 32-bit program registers with the number and the twelve bytes it knows', async (t, guest) => {
  needsSingleUseIds(guest);
  await needs32Bit(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  await client.writeFile({ path: fuse.backing('b'), data: 'from the backing file' });
  const caller = { guest, client, fuse };
  const open = fuse.backing('b');

  t.is(await ioctl32(caller, PASSTHROUGH_OPEN_32, argument32(0), { open }), 1);
  t.is(await ioctl32(caller, PASSTHROUGH_OPEN_64, argument32(0), { open }), 2, 'the size does not matter');
  for (const id of [1, 2]) {
    const fd = await openWithId(guest, client, { fuse, id });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'from the backing file', `id ${id}`);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('twelve bytes at the end of a mapping are enough for a 32-bit program', async (t, guest) => {
  needsSingleUseIds(guest);
  await needs32Bit(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const how = { open: fuse.backing('f'), argAtPageEnd: true };
  t.is(await ioctl32({ guest, client, fuse }, PASSTHROUGH_OPEN_32, argument32(0), how), 1);
});

guestTest('a 32-bit program gets the errors of PASSTHROUGH_OPEN', async (t, guest) => {
  needsSingleUseIds(guest);
  await needs32Bit(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const caller = { guest, client, fuse };
  const open = fuse.backing('f');
  const call = (arg: Uint8Array, how = {}): Promise<number> => ioctl32(caller, PASSTHROUGH_OPEN_32, arg, how);

  t.is(await call(argument32(0, 1), { open }), -EINVAL, 'length');
  t.is(await call(argument32(-1)), -EBADF, 'no such descriptor');
  t.is(await call(argument32(0), { open: '/proc/version' }), -EBADF, 'a file that only reads');
  t.is(await call(argument32(0, 0, 0xffff_ffff), { open }), 1, '`vec` is not read');
  t.is(await ioctl32(caller, 0x400c_e401, argument32(0), { open }), -EINVAL, 'foreign magic');
  t.is(await ioctl32(caller, 0x4004_e502, argument32(1)), -ENOTTY, 'unknown number');
});

guestTest('a 32-bit program finds passthrough not negotiated before all else', async (t, guest) => {
  needsSingleUseIds(guest);
  await needs32Bit(guest);
  const init = { dropFlags: ['PASSTHROUGH_FD'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using client = await guest.client();
  const caller = { guest, client, fuse };
  t.is(await ioctl32(caller, PASSTHROUGH_OPEN_32, argument32(-1, 1)), -EPERM);
});
