import { text } from '../lib/bytes.ts';
import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ioctl32, needs32Bit } from '../lib/calls-32.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

const { BACKING_OPEN, BACKING_CLOSE } = DeviceIoctl;
const EPERM = 1;
const ENOENT = 2;
const EINVAL = 22;
const ENOTTY = 25;

function id32(id: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, id, true);
  return bytes;
}

guestTest('a 32-bit program registers, and its id is good for opens (B15)', async (t, guest) => {
  await needs32Bit(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });
  const caller = { guest, client, fuse };

  const id = await ioctl32(caller, BACKING_OPEN, backingMap(0), { open: fuse.backing('f') });
  t.is(id, 1);
  await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: id }, 1);
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file');
  t.deepEqual(await fuse.dataRequests(), []);
  if (!guest.expected.hasClose) return;
  t.is(await ioctl32(caller, BACKING_CLOSE, id32(id)), 0);
  t.is(await fuse.server.closeBacking(id), 'ENOENT', 'it was closed');
});

guestTest('a 32-bit program gets the same errors as a 64-bit one (B15)', async (t, guest) => {
  guest.needs(guest.expected.hasClose, 'BACKING_CLOSE, nor its checks: see compat-passthrough');
  await needs32Bit(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const caller = { guest, client, fuse };
  const file = fuse.backing('f');

  t.is(await ioctl32(caller, BACKING_OPEN, backingMap(0, 1), { open: file }), -EINVAL, 'flags set');
  t.is(
    await ioctl32(caller, BACKING_OPEN, backingMap(0, 0, 1n << 32n), { open: file }),
    -EINVAL,
    'padding set',
  );
  t.is(await ioctl32(caller, BACKING_CLOSE, id32(0)), -EINVAL, 'id 0');
  t.is(await ioctl32(caller, BACKING_CLOSE, id32(7)), -ENOENT, 'unknown id');
  // The argument without its padding, as if the compiler had packed it.
  t.is(await ioctl32(caller, 0x400c_e501, backingMap(0), { open: file }), -ENOTTY, 'twelve bytes');
});

guestTest('a 32-bit program without negotiated passthrough is refused (B2, B15)', async (t, guest) => {
  await needs32Bit(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const caller = { guest, client, fuse };
  t.is(await ioctl32(caller, BACKING_OPEN, backingMap(0), { open: fuse.backing('f') }), -EPERM);
  if (guest.expected.hasClose) t.is(await ioctl32(caller, BACKING_CLOSE, id32(1)), -EPERM);
});
